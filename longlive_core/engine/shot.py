"""One shot: its cache, its prompt, and the passes that denoise its next chunk or rebuild its cache.

What restoring (`restore.py`) and rolling out (`rollout.py`) a film both drive, and training too.
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
    """A prompt from one chunk on.

    Attributes:
        start: chunk of the film, counting from 0.
        context: text embeddings [B, text tokens, text_dim], padded as the model expects.
        transition: how it takes over; the first span's is not looked at.
        noise: of the chunks under it; None: the film's.
    """

    start: int
    context: Tensor
    transition: Transition = "recache"
    noise: Noise | None = None


class Shot:
    """The state of one shot: its cache, its prompt, the latents a recache may need.

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
        """Take over a new prompt before the next chunk."""
        self.prompt = self.model.prompt_keys(context)
        if transition == "cut":
            self.cache.reset()
            self.recent.clear()
            self.chunks = 0
        elif transition == "recache":
            on_step(0)
            self.recache()

    def recache(self) -> None:
        """Rebuild the cache from the window's latents under the present prompt, in one pass (section 3.2).

        The frames of the pass see one another without a causal mask, as in the paper's code. With the sink held, the
        window's frames that would fall on the sink are left out: their keys would not be written, so nothing would
        ever read them.
        """
        span = self.cache.rebuild(self.frames, hold_sink=self.stream.sink_policy == "held")
        window = torch.cat(list(self.recent), dim=2)
        self._pass(window[:, :, -span.frames :], self.stream.context_noise, span, self.frames - span.frames)
        self.cache.commit(span)

    def next_chunk(self, noise: Noise, on_step: Callable[[int], None]) -> Tensor:
        """Denoise the next chunk and leave its clean keys and values behind. -> latents [B, C, chunk, h, w].

        Raises NonFiniteError where the latents hold NaN or infinity; the cache then stays as it was.
        """
        span = self.cache.next_chunk()
        latents = self._denoise(span, noise, on_step)
        finite = torch.isfinite(latents).all()
        on_step(len(self.timesteps))
        self._pass(latents, self.stream.context_noise, span, self.frames)
        if not finite:  # the one synchronisation of a chunk, with all its passes already queued
            raise NonFiniteError(self._why_not_finite(span, noise))
        self.cache.commit(span)
        self._keep(latents)
        return latents

    def feed(self, latents: Tensor) -> None:
        """Take clean latents [B, C, chunk, h, w] as the next chunk, as if it had been made."""
        span = self.cache.next_chunk()
        self._pass(latents, self.stream.context_noise, span, self.frames)
        self.cache.commit(span)
        self._keep(latents)

    def _keep(self, latents: Tensor) -> None:
        self.recent.append(latents)
        self.chunks += 1

    def _denoise(self, span: Span, noise: Noise, on_step: Callable[[int], None]) -> Tensor:
        """All denoising passes of a chunk. They leave nothing behind that a second call would not overwrite."""
        last = len(self.timesteps) - 1
        noisy = self.noisy_input(span, noise, last, on_step)
        on_step(last)
        return self.rounded(self.predict(span, noisy, last))

    def noisy_input(self, span: Span, noise: Noise, last: int, on_step: Callable[[int], None]) -> Tensor:
        """What the next chunk's denoising pass `last` starts from, after all passes before it. [B, C, chunk, h, w]."""
        noisy = self._noise(noise, 0)
        for step in range(last):
            on_step(step)
            clean = self.predict(span, noisy, step)
            noisy = add_noise(clean, self._noise(noise, step + 1), self.timesteps[step + 1])
        return noisy

    def predict(self, span: Span, noisy: Tensor, step: int) -> Tensor:
        """The next chunk's clean latents as denoising pass `step` sees them; training differentiates through this."""
        timestep = self.timesteps[step]
        return clean_sample(noisy, self._pass(noisy, timestep, span, self.frames), timestep)

    def rounded(self, latents: Tensor) -> Tensor:
        """Latents as the clean pass reads them; so they can be stored in that dtype, and the VAE sees the same."""
        return latents.to(self.model.dtype).float()

    def _why_not_finite(self, span: Span, noise: Noise) -> str:
        return find_cause(
            self.model,
            self.prompt,
            kept=lambda layer: self.cache.visible(layer, span),
            retry=lambda on_pass: self._denoise(span, noise, on_pass),
        )

    def _noise(self, noise: Noise, step: int) -> Tensor:
        return send(noise.draw(self.chunks, step, self.shape), self.model.device)

    def _pass(self, latents: Tensor, timestep: float, span: Span, first_frame: int) -> Tensor:
        """One forward over `span`; `first_frame` is the absolute position of its first latent frame."""
        if self.stream.positions == "absolute":
            attend = self._attend_absolute(span, range(first_frame, first_frame + span.frames))
        else:
            attend = self._attend_relative(span)
        return self.model.velocity(latents, timestep, self.prompt, attend)

    def _attend_absolute(self, span: Span, positions: range):
        """Keys are rotated once, by their place in the shot, and cached so."""
        table = self.own_rotary.table(positions)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.model.attention(rotate(q, table), *self.cache.exchange(layer, span, rotate(k, table), v))

        return attend

    def _attend_relative(self, span: Span):
        """Keys are cached as they are and rotated at each use, by their place in the window."""
        own = self.own_rotary.table(span.own_positions)
        window = self.window_rotary.table(span.positions)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.cache.exchange(layer, span, k, v)
            return self.model.attention(rotate(q, own), rotate(keys, window), values)

        return attend
