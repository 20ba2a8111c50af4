"""One shot: its KV cache, its prompt, and the passes that denoise its next chunk or rebuild its cache.

Here a prompt becomes cached keys: `Shot.switch` computes the cross-attention keys and values of a prompt and recaches
the window's self-attention keys under it. `rollout.py`, `restore.py` and training call this class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import StreamConfig, Transition
from ..device.transfer import send
from ..model import CausalWan, Rotary
from ..model.rotary import apply as rotate
from .cache import RollingCache, Span
from .noise import Noise
from .nonfinite import NonFiniteError, find_cause
from .schedule import add_noise, clean_sample, warp


@dataclass(frozen=True)
class PromptSpan:
    """A prompt, and the chunk at which it starts.

    Attributes:
        start: chunk in the film, from 0.
        context: text embeddings [B, text tokens, text_dim], padded as the model expects.
        transition: how the cache is treated when the prompt starts; ignored for the first span.
        noise: for the chunks under this prompt; None: the noise of the film.
    """

    start: int
    context: Tensor
    transition: Transition = "recache"
    noise: Noise | None = None


class Shot:
    """The state of one shot: its cache, its prompt, and the latents that a recache needs.

    Args:
        capacity: latent frames of the longest shot; the cache's size when there is no window.
    """

    def __init__(self, model: CausalWan, stream: StreamConfig, latent_size: tuple[int, int], batch: int, capacity: int):
        config = model.config
        self.model, self.stream = model, stream
        self.window = capacity if stream.window == -1 else stream.window
        self.shape = (batch, config.in_dim, stream.chunk, *latent_size)
        self.timesteps = [warp(step, stream.shift) for step in stream.denoising_steps]
        grid = (latent_size[0] // config.patch_size[1], latent_size[1] // config.patch_size[2])
        self.own_rotary, self.window_rotary = (Rotary(config.head_dim, grid, model.device) for _ in range(2))
        self.cache = RollingCache(
            layers=config.num_layers,
            batch=batch,
            window=self.window,
            sink=stream.sink,
            chunk=stream.chunk,
            tokens=grid[0] * grid[1],
            heads=config.num_heads,
            head_dim=config.head_dim,
            device=model.device,
            dtype=model.dtype,
        )
        self.recent: deque[Tensor] = deque(maxlen=self.window // stream.chunk)
        self.chunks = 0
        self.prompt = None

    @property
    def frames(self) -> int:
        """Latent frames of the shot so far."""
        return self.chunks * self.stream.chunk

    def switch(self, context: Tensor, transition: Transition, on_step: Callable[[int], None]) -> None:
        """Switch to a new prompt before the next chunk: compute its keys and values, then apply the transition."""
        self.prompt = self.model.prompt_keys(context)
        if transition == "cut":
            self.cache.reset()
            self.recent.clear()
            self.chunks = 0
        elif transition == "recache":
            on_step(0)
            self.recache()

    def recache(self) -> None:
        """Rebuild the cache from the window's latents under the current prompt, in one pass (section 3.2).

        The frames of the pass see one another without a causal mask, as in the paper's code. With the sink held, the
        frames of the window that would fall on the sink are left out: their keys would not be written, so no pass
        would read them.
        """
        span = self.cache.rebuild(self.frames, hold_sink=self.stream.sink_policy == "held")
        window = torch.cat(list(self.recent), dim=2)
        self._pass(window[:, :, -span.frames :], self.stream.context_noise, span, self.frames - span.frames)
        self.cache.commit(span)

    def next_chunk(self, noise: Noise, on_step: Callable[[int], None]) -> Tensor:
        """Denoise the next chunk and cache its clean keys and values. -> latents [B, C, chunk, h, w].

        Raises NonFiniteError if the latents hold NaN or infinity; the cache is then unchanged.
        """
        span = self.cache.next_chunk()
        latents = self._denoise(span, noise, on_step)
        finite = torch.isfinite(latents).all()
        on_step(len(self.timesteps))
        self._pass(latents, self.stream.context_noise, span, self.frames)
        if not finite:  # the one synchronisation of a chunk, with all its passes already queued
            raise NonFiniteError(self._why_not_finite(span, noise))
        self.cache.commit(span)
        self._append(latents)
        return latents

    def feed(self, latents: Tensor) -> None:
        """Append clean latents [B, C, chunk, h, w] as the next chunk, as if it had been rendered."""
        span = self.cache.next_chunk()
        self._pass(latents, self.stream.context_noise, span, self.frames)
        self.cache.commit(span)
        self._append(latents)

    def _append(self, latents: Tensor) -> None:
        self.recent.append(latents)
        self.chunks += 1

    def _denoise(self, span: Span, noise: Noise, on_step: Callable[[int], None]) -> Tensor:
        """Run all denoising passes of a chunk. A second call overwrites everything that they wrote."""
        last = len(self.timesteps) - 1
        noisy = self.noisy_input(span, noise, last, on_step)
        on_step(last)
        return self.rounded(self.predict(span, noisy, last))

    def noisy_input(self, span: Span, noise: Noise, last: int, on_step: Callable[[int], None]) -> Tensor:
        """Run the denoising passes before pass `last`; return the input of `last`, [B, C, chunk, h, w]."""
        noisy = self._noise(noise, 0)
        for step in range(last):
            on_step(step)
            clean = self.predict(span, noisy, step)
            noisy = add_noise(clean, self._noise(noise, step + 1), self.timesteps[step + 1])
        return noisy

    def predict(self, span: Span, noisy: Tensor, step: int) -> Tensor:
        """Return the next chunk's clean latents as predicted by pass `step`; differentiable."""
        timestep = self.timesteps[step]
        return clean_sample(noisy, self._pass(noisy, timestep, span, self.frames), timestep)

    def rounded(self, latents: Tensor) -> Tensor:
        """Round latents to the dtype that the clean pass reads, so that they can be stored in it without loss."""
        return latents.to(self.model.dtype).float()

    def _why_not_finite(self, span: Span, noise: Noise) -> str:
        return find_cause(
            self.model,
            self.prompt,
            cached=lambda layer: self.cache.visible(layer, span),
            retry=lambda on_pass: self._denoise(span, noise, on_pass),
        )

    def _noise(self, noise: Noise, step: int) -> Tensor:
        return send(noise.draw(self.chunks, step, self.shape), self.model.device)

    def _pass(self, latents: Tensor, timestep: float, span: Span, first_frame: int) -> Tensor:
        """Run the model over `span`; `first_frame` is the absolute position of its first latent frame."""
        if self.stream.positions == "absolute":
            attend = self._attend_absolute(span, range(first_frame, first_frame + span.frames))
        else:
            attend = self._attend_relative(span)
        return self.model.velocity(latents, timestep, self.prompt, attend)

    def _attend_absolute(self, span: Span, positions: range):
        """Rotate keys once, by their position in the shot, and cache them rotated."""
        table = self.own_rotary.table(positions)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.model.attention(rotate(q, table), *self.cache.exchange(layer, span, rotate(k, table), v))

        return attend

    def _attend_relative(self, span: Span):
        """Cache keys without rotation and rotate them at each use, by their position in the window."""
        own = self.own_rotary.table(span.own_positions)
        window = self.window_rotary.table(span.positions)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.cache.exchange(layer, span, k, v)
            return self.model.attention(rotate(q, own), rotate(keys, window), values)

        return attend
