"""Rendering with a `Pipeline`: what the command line does, for use without ComfyUI.

result = render_film(film_run(pipeline, plan, "film.mp4", stream=pipeline.stream, seed=1, size=(832, 480)))
"""

from __future__ import annotations

import os

import torch
from torch import Tensor

from ..config import StreamConfig
from ..takes import StartChunks, TakeStore, clip_latents
from ..timeline import Plan, plan_text
from ..words.wording import count
from .estimate import NotEnoughDisk
from .film_run import NO_ROOM, FilmRequest, FilmResult, FilmRun, RunObserver
from .host import PipelineHost
from .pipeline import Pipeline
from .speed import SpeedBook


def film_run(
    pipeline: Pipeline,
    plan: Plan,
    path: str | os.PathLike,
    *,
    stream: StreamConfig,
    size: tuple[int, int],
    seed: int = 0,
    timeline: str | None = None,
    start: StartChunks | Tensor | None = None,
    model_name: str | None = None,
    store: TakeStore | None = None,
    observer: RunObserver | None = None,
    book: SpeedBook | None = None,
) -> FilmRun:
    """Return the run that renders `plan` to the MP4 at `path` with a pipeline.

    timeline: the plan's text as written; by default the plan in exact chunks. start: what the film begins with: stored
    chunks, or a clip [T, H, W, 3] in [0, 1]. The other arguments are those of `FilmRequest` and `FilmRun`.
    """
    if isinstance(start, Tensor):
        decoder = pipeline.decoder
        with torch.inference_mode():
            start = clip_latents(decoder.module, start, stream.chunk, decoder.device, decoder.dtype)
    timeline = plan_text(plan) if timeline is None else timeline
    film = FilmRequest(plan, timeline, stream, seed, size, start, model_name)
    return FilmRun(PipelineHost(pipeline), film, path, store, observer, book)


def render_film(run: FilmRun) -> FilmResult:
    """Render a film, from planning to the finished file.

    Ctrl-C after the first chunk leaves the film so far, then KeyboardInterrupt is raised again. The same holds for
    every other exception if the chunks are kept in a store; without a store, other exceptions leave no file.
    NotEnoughMemory and NotEnoughDisk are raised before anything is computed; NotEnoughDisk also if the limit of the
    store left no space for the rest of the film. NonFiniteError is raised if numbers stop being finite.
    """
    with run:
        result = run.render((KeyboardInterrupt,) if run.temporary else (BaseException,), then_raise=True)
    if result.ended == NO_ROOM:
        done = f"{result.progress.chunk} of {count(run.request.plan.chunks, 'chunk')}"
        raise NotEnoughDisk(f"'{run.path}' ends after {done}: {result.progress.no_room}")
    return result
