"""A plan -> a film on disk: the whole pipeline in one loop, for use without ComfyUI."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from .config import StreamConfig
from .film import film_frames
from .identity import weights_identity
from .memory import Need, check_memory, shortage_explained
from .metadata import captions_of
from .noise import AddressedNoise
from .rollout import PromptSpan, rollout
from .takes import Origin, TakeStore, open_take, render_take, reuse
from .timeline import Plan
from .video import Encoding, FilmWriter, check_writable

if TYPE_CHECKING:
    from .pipeline import Pipeline

# Called after every chunk with (chunks done, frames of this chunk).
OnChunk = Callable[[int, int], None]


def prompt_spans(plan: Plan, contexts: Mapping[str, torch.Tensor]) -> list[PromptSpan]:
    """One span a segment. contexts: the embedding [1, tokens, width] of each of plan.texts."""
    return [PromptSpan(segment.start_chunk, contexts[segment.text], segment.transition) for segment in plan.segments]


def check_size(width: int, height: int, multiple: int = 16) -> None:
    """Raise ValueError unless both are multiples of 16 pixels: 8 of the VAE times 2 of the model's patches."""
    if width < multiple or height < multiple or width % multiple or height % multiple:
        near = [max(multiple, round(value / multiple) * multiple) for value in (width, height)]
        raise ValueError(
            f"the size is {width} x {height} pixels; width and height must be multiples of {multiple}, such as "
            f"{near[0]} x {near[1]}"
        )


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
    on_chunk: OnChunk | None = None,
) -> int:
    """Render `plan` to the MP4 at `path`, chunk by chunk; returns the frames written.

    size: (width, height) in pixels, multiples of 16. stream.chunk must be the plan's. Ctrl-C after the first chunk
    finishes the file with what there is and raises KeyboardInterrupt; any other exception leaves no file:
    NotEnoughMemory before anything is computed, NonFiniteError where numbers stop being finite.
    """
    width, height = size
    need = _check_run(pipeline, plan, stream, size)
    noise = AddressedNoise(seed)
    with (
        shortage_explained(need, pipeline.model.device),
        FilmWriter(path, width, height, plan.fps, metadata=metadata, captions=captions_of(plan)) as film,
        torch.inference_mode(),
    ):
        spans = prompt_spans(plan, pipeline.encode(plan.texts))
        chunks = rollout(pipeline.model, spans, plan.chunks, (height // 8, width // 8), stream, noise)
        interrupted = False
        try:
            for chunk, frames in film_frames(chunks, pipeline.decoder):
                film.write(frames)
                if on_chunk is not None:
                    on_chunk(chunk.index + 1, len(frames))
        except KeyboardInterrupt:
            if film.frames == 0:
                raise
            interrupted = True
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
    metadata: dict[str, str],
    on_chunk: OnChunk,
    say: Callable[[str], None],
) -> int:
    """As `render_film`, but every chunk is kept in `store`, and what is there already is not made again.

    timeline: the text as written. say: is told what is reused, and why the rest is not. Whatever stops this leaves the
    chunks so far in the store and, if there are any, in the film at `path`.
    """
    need = _check_run(pipeline, plan, stream, size)
    check_writable(path)
    origin = Origin(weights_identity(pipeline.model.module), weights_identity(pipeline.text.model),
                    str(pipeline.model.dtype).removeprefix("torch."), stream, size, seed)  # fmt: skip
    vae = f"{weights_identity(pipeline.decoder.module)} {pipeline.decoder.dtype}"
    take = open_take(store, timeline, plan, origin, Encoding(*size, fps=plan.fps), vae)
    say(reuse(take))
    texts = plan.texts if take.reused < plan.chunks else ()
    try:
        with shortage_explained(need, pipeline.model.device):
            contexts = pipeline.encode(texts) if texts else {}
            render_take(take, pipeline.model, pipeline.decoder, contexts, metadata,
                        lambda chunk, frames: on_chunk(chunk + 1, take.frames_of(chunk)))  # fmt: skip
    finally:
        frames = take.join(path, metadata) if take.has_film else 0
    return frames


def _check_run(pipeline: Pipeline, plan: Plan, stream: StreamConfig, size: tuple[int, int]) -> Need:
    check_size(*size)
    if stream.chunk != plan.chunk:
        raise ValueError(f"the plan has chunks of {plan.chunk} latent frames, the run of {stream.chunk}; plan again")
    return check_memory(pipeline.model, pipeline.decoder, plan, stream, size)
