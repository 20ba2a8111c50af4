"""A plan -> a film on disk: the whole pipeline in one loop, for use without ComfyUI."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..config import StreamConfig
from ..device.placement import Offloader
from ..engine.noise import AddressedNoise
from ..engine.prompts import PromptEmbeddings, prompt_spans
from ..engine.rollout import rollout
from ..film.decoding import film_frames
from ..film.tags import subtitles_of, with_given
from ..film.video import Encoding, FilmWriter, check_writable
from ..sizes import check_size
from ..takes import (
    Live,
    Observer,
    Origin,
    StartChunks,
    Take,
    TakeStore,
    VaeIdentity,
    clip_latents,
    plan_take,
    render_take,
    reuse,
    store_start_latents,
)
from ..takes.live import Progress
from ..timeline import Plan
from ..words.wording import count
from .estimate import Estimate, NotEnoughDisk, chunks_to_make, estimate_film, make_room
from .identity import text_identity, weights_identity
from .memory import available_memory, estimate, shortage_explained, weight_bytes
from .reports import repaired_line
from .speed import SpeedBook, SpeedRecorder

if TYPE_CHECKING:
    from .pipeline import Pipeline

# Called after every chunk with (chunks done, frames of this chunk).
OnChunk = Callable[[int, int], None]
Say = Callable[[str], None]


def check_device(name: str) -> None:
    """Raise ValueError unless torch can compute on the device `name`; "auto" always can."""
    if name == "auto":
        return
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device '{name}' here ({reason}); use auto, cpu, or cuda where there is a GPU") from error


def render_film(
    pipeline: Pipeline,
    plan: Plan,
    path: str | os.PathLike,
    *,
    stream: StreamConfig,
    seed: int,
    size: tuple[int, int],
    metadata: dict[str, str] | None = None,
    subtitles: bool = True,
    on_chunk: OnChunk | None = None,
    say: Say = lambda message: None,
    book: SpeedBook | None = None,
) -> int:
    """Render `plan` to the MP4 at `path`, chunk by chunk; returns the frames written.

    size: (width, height) in pixels, multiples of 16. stream.chunk must be the plan's. metadata: tags. subtitles:
    whether prompts become subtitles and chapters. say: is told how long it will take, where `book` knows; the speed of
    this run is noted there. Ctrl-C after the first chunk finishes the file with what there is and raises
    KeyboardInterrupt; any other exception leaves no file: NotEnoughMemory and NotEnoughDisk before anything is
    computed, NonFiniteError where numbers stop being finite.
    """
    width, height = size
    expected = estimate_render(pipeline, plan, path, stream=stream, size=size, book=book)
    expected.check()
    _say_time(expected, say)
    noise, recorder = AddressedNoise(seed), SpeedRecorder(book, expected.key)
    with (
        shortage_explained(expected.need, pipeline.model.device),
        FilmWriter(
            path, width, height, plan.fps, metadata=metadata, subtitles=subtitles_of(plan) if subtitles else ()
        ) as film,
        torch.inference_mode(),
    ):
        spans = prompt_spans(plan.prompts, PromptEmbeddings(pipeline.encode, plan.texts))
        offloader = Offloader(expected.need.placement, pipeline.decoder)
        chunks = rollout(
            pipeline.model, spans, plan.chunks, (height // 8, width // 8), stream, noise, offloader=offloader
        )
        interrupted = False
        try:
            for chunk, frames in film_frames(chunks, pipeline.decoder, offloader):
                film.write(frames)
                recorder.lap()
                if on_chunk is not None:
                    on_chunk(chunk.index + 1, len(frames))
        except KeyboardInterrupt:
            if film.frames == 0:
                raise
            interrupted = True
    recorder.finish(os.path.getsize(path), film.frames)
    if interrupted:
        raise KeyboardInterrupt
    return film.frames


def render_stored(
    pipeline: Pipeline,
    plan: Plan,
    path: str | os.PathLike,
    store: TakeStore,
    *,
    timeline: str,
    stream: StreamConfig,
    seed: int,
    size: tuple[int, int],
    metadata: dict[str, str] | None,
    subtitles: bool = True,
    on_chunk: OnChunk,
    say: Say,
    book: SpeedBook | None = None,
    given: StartChunks | torch.Tensor | None = None,
) -> int:
    """As `render_film`, but every chunk is kept in `store`, and what is there already is not made again.

    timeline: the text as written. metadata: None, with `captions` off as well, for a film that says nothing of itself.
    given: what the film begins with: chunks of the store, or a clip [T, H, W, 3] in [0, 1]. say: is also told what is
    reused, why the rest is not, and which takes went because of the store's limit. Whatever stops this leaves the
    chunks so far in the store and, if there are any, in the film at `path`; so does NotEnoughDisk where that limit left
    no room for the rest.
    """
    _check_run(plan, stream, size)
    check_writable(path)
    with store.locked():
        take = plan_stored(pipeline, plan, store, timeline=timeline, stream=stream, seed=seed, size=size, given=given)
        expected = estimate_render(pipeline, plan, path, stream=stream, size=size, book=book, take=take)
        expected.check()
        store.write_manifest(take.manifest)  # before others go: from here on the chunks that this one reuses stay
    say(reuse(take))
    tags = None if metadata is None else with_given(metadata, take.manifest.given)
    make_room(take, expected, say)
    _say_time(expected, say)
    made, recorder = set(chunks_to_make(take)), SpeedRecorder(book, expected.key)

    def done(chunk: int, pictures: np.ndarray | None) -> None:
        recorder.lap(chunk in made)
        on_chunk(chunk + 1, take.frames_of(chunk))

    def leave_film() -> int:
        frames = take.join(path, tags, subtitles)
        recorder.finish(os.path.getsize(path), frames)
        return frames

    observer = Observer()
    observer.chunk, observer.report = done, say
    try:
        with shortage_explained(expected.need, pipeline.model.device):
            context_of = PromptEmbeddings(pipeline.encode, plan.texts)
            offloader = Offloader(expected.need.placement, pipeline.decoder)
            live = Live(plan)
            render_take(
                take,
                pipeline.model,
                pipeline.decoder,
                context_of,
                lambda take: tags,
                observer,
                live=live,
                offloader=offloader,
            )
    except BaseException:
        if take.has_film:
            with contextlib.suppress(OSError, ValueError):  # the disk may be full; what led here is the error to report
                leave_film()
        raise
    _say_repairs(live.progress, say)
    frames = leave_film()
    if live.progress.no_room is not None:
        ended = f"{live.progress.chunk} of {count(plan.chunks, 'chunk')}"
        raise NotEnoughDisk(f"'{path}' ends after {ended}: {live.progress.no_room}")
    return frames


def _say_repairs(progress: Progress, say: Say) -> None:
    if progress.repaired:
        say(repaired_line(progress.repaired))
    for note in progress.notes:
        say(f"note: {note}")


def plan_stored(
    pipeline: Pipeline,
    plan: Plan,
    store: TakeStore,
    *,
    timeline: str,
    stream: StreamConfig,
    seed: int,
    size: tuple[int, int],
    given: StartChunks | torch.Tensor | None = None,
) -> Take:
    """The take that `render_stored` renders; writes nothing but a clip that is given."""
    model, decoder = pipeline.model, pipeline.decoder
    origin = Origin(
        weights_identity(model.module, model.dtype),
        text_identity(pipeline.text.model),
        str(model.dtype).removeprefix("torch."),
        stream,
        size,
        seed,
    )
    vae = VaeIdentity(weights_identity(decoder.module, decoder.dtype), str(decoder.dtype), decoder.width)
    if isinstance(given, torch.Tensor):
        with torch.inference_mode():
            latents = clip_latents(decoder.module, given, stream.chunk, decoder.device, decoder.dtype)
        given = store_start_latents(store, latents, origin, plan.chunks)
    return plan_take(store, timeline, plan, origin, Encoding(*size, fps=plan.fps), vae, given)


def estimate_render(
    pipeline: Pipeline,
    plan: Plan,
    path: str | os.PathLike,
    *,
    stream: StreamConfig,
    size: tuple[int, int],
    book: SpeedBook | None = None,
    take: Take | None = None,
) -> Estimate:
    """What `render_film`, or with a take `render_stored`, will need to write `path`. ValueError: cannot be rendered."""
    _check_run(plan, stream, size)
    model = pipeline.model
    need = estimate(model, pipeline.decoder, plan, stream, size)
    available = available_memory(model.device, need)
    need = need.placed(model.device, available)
    # On a GPU the weights pass through main memory when they are loaded, and the text encoder rests there.
    main = 0 if model.device.type == "cpu" else max(need.weights, need.moving) + weight_bytes(pipeline.text.model)
    return estimate_film(model, plan, stream, size, need, available, path, take=take, book=book, main=main)


def _say_time(expected: Estimate, say: Say) -> None:
    if expected.made and expected.speed is not None:
        say(f"expected: {expected.describe_time()}")


def _check_run(plan: Plan, stream: StreamConfig, size: tuple[int, int]) -> None:
    check_size(*size)
    if stream.chunk != plan.chunk:
        raise ValueError(f"the plan has chunks of {plan.chunk} latent frames, the run of {stream.chunk}; plan again")
