"""The causal rollout: a generator of chunks (LongLive, sections 3.1 to 3.3; Self-Forcing, algorithm 1).

For each chunk: a few denoising passes from noise, then one clean pass at timestep `context_noise`, which alone leaves
keys and values behind. At a change of prompt the chunk before which it happens is preceded by the transition:

- recache: the last frames of the window run once more under the new prompt and rebuild the cache (KV recache);
- keep: the cache stays as the old prompt made it;
- cut: a new shot. Cache, positions and noise addresses start again, so a shot is the film one would get alone.

The rollout holds the cache and the window's latents, nothing that grows with the film (but without a window, which by
definition keeps everything). It builds no autograd graph if the weights do not require gradients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .cache import RollingCache, Span
from .config import TRANSITIONS, StreamConfig, Transition
from .model import CausalWan, Rotary
from .model.rotary import apply as rotate
from .noise import Noise
from .nonfinite import NonFiniteError, find_cause
from .placement import Turns
from .restore import restore
from .schedule import add_noise, clean_sample, warp
from .transfer import send

OnStep = Callable[[int, int], None]
"""(chunk in the film, pass in the chunk); called before every pass, may raise to cancel."""


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


@dataclass(frozen=True)
class Chunk:
    """What the rollout yields.

    Attributes:
        index: in the film.
        index_in_shot: since the last cut.
        latents: [B, C, chunk, h, w], float32, normalised, on the model's device; rounded to the model's dtype.
    """

    index: int
    index_in_shot: int
    latents: Tensor

    @property
    def first_of_shot(self) -> bool:
        return self.index_in_shot == 0


def rollout(model: CausalWan, spans: Sequence[PromptSpan], chunks: int, latent_size: tuple[int, int],
            stream: StreamConfig, noise: Noise, on_step: OnStep | None = None, stored: Sequence[Tensor] = (),
            turns: Turns | None = None) -> Iterator[Chunk]:  # fmt: skip
    """Generate a film chunk by chunk.

    Args:
        model: the transformer.
        spans: prompts in order; the first starts at chunk 0.
        chunks: length of the film.
        latent_size: (h, w), pixels / 8, multiples of the patch size.
        stream: window, sink, steps and so on.
        noise: `AddressedNoise(seed)`, or a recording.
        on_step: progress and cancellation.
        stored: latents of the film's first chunks, [B, C, chunk, h, w] float32 each, loaded one by one where they are
            needed. The film goes on after them exactly as it would have; they are not yielded again.
        turns: whoever decodes the chunks in between says so there, see `placement.py`.

    Raises:
        ValueError: on arguments that contradict each other, before anything is computed. NonFiniteError (from the
            iterator): a chunk holds NaN or infinity; names the chunk and the layer where that begins.
    """
    shots = _shot_lengths(spans, chunks)
    check_run(model, latent_size, stream, max(shots))
    if len(stored) > chunks:
        raise ValueError(f"{len(stored)} chunks are stored, but the film has {chunks}")
    watch = on_step or (lambda chunk, step: None)
    return _generate(model, spans, chunks, latent_size, stream, noise, watch, stored, turns)


def _generate(model, spans, chunks, latent_size, stream, noise, on_step, stored, turns) -> Iterator[Chunk]:
    longest = max(_shot_lengths(spans, chunks)) * stream.chunk
    batch = spans[0].context.shape[0]
    roll = Roll(model, stream, latent_size, noise, longest, on_step, batch=batch, turns=turns)
    roll.go_on(spans, stored)
    starts = {span.start: span for span in spans}
    for index in range(len(stored), chunks):
        yield roll.next_chunk(starts.get(index))


class Roll:
    """A film in the making: chunk after chunk, each under the prompt before or a new one.

    Args:
        noise: of the chunks whose prompt has none of its own.
        capacity: latent frames of the longest shot; the cache's size when there is no window.

    The others are those of `rollout`. Attributes: index, the next chunk's place in the film.
    """

    def __init__(self, model: CausalWan, stream: StreamConfig, latent_size: tuple[int, int], noise: Noise,
                 capacity: int, on_step: OnStep, batch: int = 1, turns: Turns | None = None):  # fmt: skip
        self.turns = turns or Turns()
        self.turns.denoising()
        self.shot = Shot(model, stream, latent_size, batch=batch, capacity=capacity)
        self.turns.cache = self.shot.cache
        self.noise, self.on_step = noise, on_step
        self.index = 0
        self._noise_now = noise

    def go_on(self, spans: Sequence[PromptSpan], stored: Sequence[Tensor]) -> None:
        """Stand after the stored chunks, as if they had just been made.

        spans: the prompts up to there, in order; one that starts with the next chunk, or later, may be among them.
        """
        first = self.index = len(stored)
        if not first:
            return
        self._noise_now = max((s for s in spans if s.start < first), key=lambda s: s.start).noise or self.noise
        cut = max(s.start for s in spans if s.start <= first and (s.start == 0 or s.transition == "cut"))
        if cut < first:  # else a new shot begins, and nothing of before matters
            own = [PromptSpan(s.start - cut, s.context, s.transition) for s in spans if cut <= s.start <= first]
            restore(self.shot, own, lambda chunk: stored[cut + chunk], first - cut, lambda: self.on_step(first, 0))

    def next_chunk(self, change: PromptSpan | None = None) -> Chunk:
        """Make the next chunk. change: the prompt that takes over before it; the film's first chunk needs one."""
        index, shot = self.index, self.shot
        self.turns.denoising()
        cancel_point = _bind(self.on_step, index)
        if change is not None:
            self._noise_now = change.noise or self.noise
            shot.switch(change.context, "cut" if index == 0 else change.transition, cancel_point)
        in_shot = shot.chunks
        try:
            latents = shot.next_chunk(self._noise_now, cancel_point)
        except NonFiniteError as error:
            raise NonFiniteError(f"chunk {index}: the model's output holds NaN or infinity; {error}") from None
        self.index += 1
        return Chunk(index, in_shot, latents)


def _bind(on_step: OnStep, index: int) -> Callable[[int], None]:
    return lambda step: on_step(index, step)


def _shot_lengths(spans: Sequence[PromptSpan], chunks: int) -> list[int]:
    """Chunks of each shot; checks the spans on the way."""
    if not spans or spans[0].start != 0:
        raise ValueError("the first prompt must start at chunk 0")
    for before, after in zip(spans, spans[1:]):  # noqa: B905 - pairs of neighbours
        if not before.start < after.start < chunks:
            raise ValueError(f"a prompt starts at chunk {after.start}: allowed here are chunks {before.start + 1} "
                             f"to {chunks - 1}")  # fmt: skip
        if after.transition not in TRANSITIONS:
            raise ValueError(f"transition {after.transition!r}: allowed are {', '.join(TRANSITIONS)}")
    cuts = [0, *(span.start for span in spans[1:] if span.transition == "cut"), chunks]
    return [end - start for start, end in zip(cuts, cuts[1:])]  # noqa: B905 - pairs of neighbours


def check_run(model: CausalWan, latent_size: tuple[int, int], stream: StreamConfig, longest_shot: int) -> None:
    """Raise ValueError unless the model can roll out shots of so many chunks at this size."""
    _, ph, pw = model.config.patch_size
    height, width = latent_size
    if height < ph or width < pw or height % ph or width % pw:
        raise ValueError(f"size {width * 8}x{height * 8}: width and height must be multiples of {8 * pw} and {8 * ph}")
    stream.check_length(longest_shot)


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
            layers=config.num_layers, batch=batch, window=self.window, sink=stream.sink, chunk=stream.chunk,
            tokens=grid[0] * grid[1], heads=config.num_heads, head_dim=config.head_dim,
            device=model.device, dtype=model.dtype,
        )  # fmt: skip
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
            self.model, self.prompt, kept=lambda layer: self.cache.visible(layer, span),
            retry=lambda on_pass: self._denoise(span, noise, on_pass),
        )  # fmt: skip

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
