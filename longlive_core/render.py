"""A plan -> a film on disk: the whole pipeline in one loop, for use without ComfyUI."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from .config import StreamConfig
from .film import film_frames
from .memory import check_memory, shortage_explained
from .noise import AddressedNoise
from .rollout import PromptSpan, rollout
from .timeline import Plan
from .video import FilmWriter

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


def film_metadata(timeline: str, plan: Plan, stream: StreamConfig, seed: int, model: str) -> dict[str, str]:
    """What a film's file says about itself: `comment` is the timeline as written, `longlive` the run as JSON."""
    run = {
        "model": model,
        "seed": seed,
        "chunks": plan.chunks,
        "window": stream.window,
        "sink": stream.sink,
        "chunk": stream.chunk,
        "sink_policy": stream.sink_policy,
        "positions": stream.positions,
        "denoising_steps": stream.denoising_steps,
        "shift": stream.shift,
        "segments": [
            {"chunk": segment.start_chunk, "transition": segment.transition, "text": segment.text}
            for segment in plan.segments
        ],
    }
    return {"comment": timeline, "longlive": json.dumps(run, ensure_ascii=False)}


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
    check_size(width, height)
    if stream.chunk != plan.chunk:
        raise ValueError(f"the plan has chunks of {plan.chunk} latent frames, the run of {stream.chunk}; plan again")
    noise = AddressedNoise(seed)
    need = check_memory(pipeline.model, pipeline.decoder, plan, stream, size)
    with (
        shortage_explained(need, pipeline.model.device),
        FilmWriter(path, width, height, plan.fps, metadata=metadata) as film,
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
