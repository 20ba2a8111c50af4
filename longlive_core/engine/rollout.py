"""The causal rollout: a generator of chunks (LongLive, sections 3.1 to 3.3; Self-Forcing, algorithm 1).

Each chunk takes a few denoising passes from noise, then one clean pass at timestep `context_noise`. Only the clean pass
leaves keys and values in the cache. At a prompt switch, one of these transitions runs before the next chunk:

- recache: the frames of the window run again under the new prompt and rebuild the cache (KV recache);
- keep: the cache stays as the old prompt wrote it;
- cut: a new shot. Cache, positions and noise addresses restart, so a shot equals a film of its own.

The rollout holds the cache and the latents of the window; nothing grows with the film (except without a window, which
by definition keeps everything). It builds no autograd graph if the weights do not require gradients.

One shot's state and passes are in `shot.py`, the cache in `cache.py`, resuming from stored latents in `restore.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..config import TRANSITIONS, StreamConfig
from ..device.placement import Offloader
from ..model import CausalWan
from .noise import Noise
from .nonfinite import NonFiniteError
from .restore import restore
from .shot import PromptSpan, Shot

OnStep = Callable[[int, int], None]
"""(chunk in the film, pass in the chunk); called before every pass; may raise to cancel."""


@dataclass(frozen=True)
class Chunk:
    """A rendered chunk of latents.

    Attributes:
        index: in the film.
        index_in_shot: chunks since the last cut.
        latents: [B, C, chunk, h, w], float32, normalised, on the model's device; rounded to the model's dtype.
    """

    index: int
    index_in_shot: int
    latents: Tensor

    @property
    def first_of_shot(self) -> bool:
        return self.index_in_shot == 0


def rollout(
    model: CausalWan,
    spans: Sequence[PromptSpan],
    chunks: int,
    latent_size: tuple[int, int],
    stream: StreamConfig,
    noise: Noise,
    on_step: OnStep | None = None,
    stored: Sequence[Tensor] = (),
    offloader: Offloader | None = None,
) -> Iterator[Chunk]:
    """Generate a film chunk by chunk.

    Args:
        model: the transformer.
        spans: prompts in order; the first starts at chunk 0.
        chunks: length of the film.
        latent_size: (h, w), pixels / 8, multiples of the patch size.
        stream: window, sink, steps and so on.
        noise: `AddressedNoise(seed)`, or a recording.
        on_step: progress and cancellation.
        stored: latents of the film's first chunks, [B, C, chunk, h, w] float32 each, loaded one by one when they are
            needed. The film continues after them, bit for bit as without an interruption; they are not yielded again.
        offloader: shared with the caller, who decodes the chunks in between; see `device/placement.py`.

    Raises:
        ValueError: the arguments contradict each other; raised before anything is computed.
        NonFiniteError (from the iterator): a chunk holds NaN or infinity; names the chunk and the layer.
    """
    shots = _shot_lengths(spans, chunks)
    check_run(model, latent_size, stream, max(shots))
    if len(stored) > chunks:
        raise ValueError(f"{len(stored)} chunks are stored, but the film has {chunks}")
    report = on_step or (lambda chunk, step: None)
    return _generate(model, spans, chunks, latent_size, stream, noise, report, stored, offloader)


def _generate(model, spans, chunks, latent_size, stream, noise, on_step, stored, offloader) -> Iterator[Chunk]:
    longest = max(_shot_lengths(spans, chunks)) * stream.chunk
    batch = spans[0].context.shape[0]
    run = Rollout(model, stream, latent_size, noise, longest, on_step, batch=batch, offloader=offloader)
    run.resume(spans, stored)
    starts = {span.start: span for span in spans}
    for index in range(len(stored), chunks):
        yield run.next_chunk(starts.get(index))


class Rollout:
    """The state of a rollout, which renders chunk after chunk, under the current prompt or a new one.

    Args:
        noise: for chunks whose prompt has no noise of its own.
        capacity: latent frames of the longest shot; the cache's size when there is no window.

    The other arguments are those of `rollout`. Attributes: index, the next chunk's index in the film.
    """

    def __init__(
        self,
        model: CausalWan,
        stream: StreamConfig,
        latent_size: tuple[int, int],
        noise: Noise,
        capacity: int,
        on_step: OnStep,
        batch: int = 1,
        offloader: Offloader | None = None,
    ):
        self.offloader = offloader or Offloader()
        self.offloader.before_denoising()
        self.shot = Shot(model, stream, latent_size, batch=batch, capacity=capacity)
        self.offloader.cache = self.shot.cache
        self.noise, self.on_step = noise, on_step
        self.index = 0
        self._current_noise = noise

    def resume(self, spans: Sequence[PromptSpan], stored: Sequence[Tensor]) -> None:
        """Continue after the stored chunks, as if they had just been rendered.

        spans: the prompts so far, in order; prompts that start with the next chunk or later are allowed.
        """
        first = self.index = len(stored)
        if not first:
            return
        self._current_noise = max((s for s in spans if s.start < first), key=lambda s: s.start).noise or self.noise
        cut = max(s.start for s in spans if s.start <= first and (s.start == 0 or s.transition == "cut"))
        if cut < first:  # else a new shot begins, which does not depend on earlier chunks
            own = [PromptSpan(s.start - cut, s.context, s.transition) for s in spans if cut <= s.start <= first]
            restore(self.shot, own, lambda chunk: stored[cut + chunk], first - cut, lambda: self.on_step(first, 0))

    def next_chunk(self, change: PromptSpan | None = None) -> Chunk:
        """Render the next chunk. change: a prompt that starts with it; the first chunk of a film needs one."""
        index, shot = self.index, self.shot
        self.offloader.before_denoising()
        cancel_point = _bind(self.on_step, index)
        if change is not None:
            self._current_noise = change.noise or self.noise
            shot.switch(change.context, "cut" if index == 0 else change.transition, cancel_point)
        in_shot = shot.chunks
        try:
            latents = shot.next_chunk(self._current_noise, cancel_point)
        except NonFiniteError as error:
            raise NonFiniteError(f"chunk {index}: the model's output holds NaN or infinity; {error}") from None
        self.index += 1
        return Chunk(index, in_shot, latents)


def _bind(on_step: OnStep, index: int) -> Callable[[int], None]:
    return lambda step: on_step(index, step)


def _shot_lengths(spans: Sequence[PromptSpan], chunks: int) -> list[int]:
    """Check the spans and return the length of each shot, in chunks."""
    if not spans or spans[0].start != 0:
        raise ValueError("the first prompt must start at chunk 0")
    for before, after in zip(spans, spans[1:]):  # noqa: B905 - pairs of neighbours
        if not before.start < after.start < chunks:
            raise ValueError(
                f"a prompt starts at chunk {after.start}: allowed here are chunks {before.start + 1} to {chunks - 1}"
            )
        if after.transition not in TRANSITIONS:
            raise ValueError(f"transition {after.transition!r}: allowed are {', '.join(TRANSITIONS)}")
    cuts = [0, *(span.start for span in spans[1:] if span.transition == "cut"), chunks]
    return [end - start for start, end in zip(cuts, cuts[1:])]  # noqa: B905 - pairs of neighbours


def check_run(model: CausalWan, latent_size: tuple[int, int], stream: StreamConfig, longest_shot: int) -> None:
    """Raise ValueError unless the model can roll out shots of `longest_shot` chunks at this size."""
    _, ph, pw = model.config.patch_size
    height, width = latent_size
    if height < ph or width < pw or height % ph or width % pw:
        raise ValueError(f"size {width * 8}x{height * 8}: width and height must be multiples of {8 * pw} and {8 * ph}")
    stream.check_length(longest_shot)
