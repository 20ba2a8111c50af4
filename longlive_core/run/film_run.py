"""One run, from a plan to a film on disk. The sampler node, the command line and every program run this.

    with FilmRun(host, request, path, store, observer) as run:  # planned and checked; nothing is computed yet
        result = run.render()

With a store, `run.begin()` does for the `with` statement, since there is nothing to close.

The steps, in this order: find the film's take, estimate, check, write the manifest, make space in the store, render
what is missing, join the film, record the speed.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..cancelling import cancellable
from ..config import StreamConfig
from ..device.placement import Offloader
from ..film.tags import film_metadata, with_given
from ..film.video import Encoding, check_writable
from ..sizes import check_size
from ..takes import (
    Live,
    Observer,
    StartChunks,
    Take,
    TakeStore,
    plan_take,
    reason_for,
    render_take,
    reuse,
    store_start_latents,
)
from ..takes.live import Progress
from ..timeline import Plan
from .estimate import Estimate, estimate_film, make_room
from .host import Host
from .speed import SpeedBook, SpeedRecorder
from .temporary import explained, temporary_store

# How a film ended.
COMPLETE, CANCELLED, FINISHED, FULL = "complete", "cancelled", "finished", "full"
LONGEST, NO_ROOM = "longest", "no_room"


@dataclass(frozen=True)
class FilmRequest:
    """What is to be rendered.

    Attributes:
        plan: the prompts in chunks.
        timeline: the text of the plan, as written.
        stream: window, sink, steps and so on; its chunk is the plan's.
        seed: of the noise.
        size: (width, height) in pixels, multiples of 16.
        start: what the film begins with: stored chunks, normalised latents [1, C, T, h, w], or None.
        model_name: for the film's metadata; None: the file has no tags, subtitles or chapters.
        endless: continue after the plan's end, until `Live.finish`.
    """

    plan: Plan
    timeline: str
    stream: StreamConfig
    seed: int
    size: tuple[int, int]
    start: StartChunks | Tensor | None = None
    model_name: str | None = None
    endless: bool = False

    def check(self) -> None:
        """Raise ValueError for settings that contradict each other."""
        check_size(*self.size)
        if self.stream.chunk != self.plan.chunk:
            raise ValueError(
                f"the plan has chunks of {self.plan.chunk} latent frames, the run of {self.stream.chunk}; plan again"
            )

    def tags(self, take: Take) -> dict[str, str] | None:
        """Return the tags of a take of this film; None: its file has none."""
        if self.model_name is None:
            return None
        timeline = take.manifest.timeline
        tags = film_metadata(timeline, take.plan, self.stream, self.seed, self.size, self.model_name)
        return with_given(tags, take.manifest.given)


@dataclass(frozen=True)
class FilmResult:
    """Result of a run.

    Attributes:
        path: the film.
        frames: its length.
        ended: how it ended, one of the constants above.
        take: what is stored; of another plan than the film's if prompts came while it was rendered.
        progress: what was rendered, reused and repaired.
        seconds: of the run.
    """

    path: Path
    frames: int
    ended: str
    take: Take
    progress: Progress
    seconds: float


class RunObserver(Observer):
    """Follows a run: the plan, and what `Observer` follows."""

    def planned(self, run: FilmRun) -> None:
        """Called when the run is planned and checked, before other takes are removed or anything is computed."""

    def rendered(self, run: FilmRun) -> None:
        """Called when every chunk is rendered, before the film is joined."""


class FilmRun:
    """One run. Use it in a `with` statement: entering it plans and checks, and raises if the run cannot succeed.

    Args:
        host: the loaded models.
        request: what to render.
        path: of the MP4.
        store: keeps every chunk; None: a temporary folder beside the film, until the run ends.
        observer: follows the run and may stop it.
        book: measured speeds; the speed of this run is recorded there. None: no time is estimated.

    Attributes, once it is entered: take, the film's take; expected, the estimate; reused, the number of chunks that
    were stored before; reason, why the others were not, or None; reuse, both as a text; live, to change the plan from
    another thread; frames, the length of the film at `path`, 0 until the run has written it.
    """

    def __init__(
        self,
        host: Host,
        request: FilmRequest,
        path: str | os.PathLike,
        store: TakeStore | None = None,
        observer: RunObserver | None = None,
        book: SpeedBook | None = None,
    ):
        self.host, self.request, self.path, self.book = host, request, Path(path), book
        self.store, self.observer = store, observer or RunObserver()
        self.temporary = store is None
        self.take: Take | None = None
        self.frames = 0
        self._resources = ExitStack()

    # --- before the render

    def estimate(self) -> Estimate:
        """Estimate what the run needs. Writes nothing but a start of latents. ValueError if it cannot be rendered."""
        self.request.check()
        if self.store is not None:
            self.take = self._plan_take()
        film, host = self.request, self.host
        memory = host.memory(film.plan, film.stream, film.size)
        take = None if self.temporary else self.take
        return estimate_film(host.model, film.plan, film.stream, film.size, memory, self.path, take, self.book)

    def begin(self) -> FilmRun:
        """Plan and check. NotEnoughMemory and NotEnoughDisk before anything is computed."""
        self.request.check()
        check_writable(self.path)
        with ExitStack() as stack:
            if self.temporary:
                self.store = stack.enter_context(temporary_store(self.path))
            with self._disk_explained(), self.store.locked():
                self.expected = self.estimate()
                self.expected.check()
                self.reused, self.reason, self.reuse = self.take.reused, reason_for(self.take), reuse(self.take)
                self.store.write_manifest(self.take.manifest)  # from here on the chunks that it reuses stay
            self._resources = stack.pop_all()
        self.live = Live(self.request.plan, self.request.endless, self.request.stream.longest_shot)
        self.offloader = Offloader(self.expected.need.placement, self.host.decoder)
        return self

    def __enter__(self) -> FilmRun:
        return self.begin()

    def __exit__(self, *error) -> None:
        self._resources.close()

    def _plan_take(self) -> Take:
        film = self.request
        origin = self.host.origin(film.stream, film.size, film.seed)
        start = film.start
        if isinstance(start, Tensor):
            start = store_start_latents(self.store, start, origin, film.plan.chunks)
        encoding = Encoding(*film.size, fps=film.plan.fps)
        return plan_take(self.store, film.timeline, film.plan, origin, encoding, self.host.vae(), start)

    def _disk_explained(self) -> AbstractContextManager[None]:
        return explained(self.path) if self.temporary else nullcontext()

    # --- the render

    def render(self, keep_after: tuple[type[BaseException], ...] = (), then_raise: bool = False) -> FilmResult:
        """Render what is missing, and join the film.

        keep_after: exceptions that may stop the run and still leave the film so far at `path`, if a first chunk is
        complete; the film is then CANCELLED, or with `then_raise` the exception is raised after all. Any other one is
        raised and leaves only the chunks in the store. If one of them interrupts the join, the film is joined again; a
        second one is raised.
        """
        began, stopped, self.frames = time.perf_counter(), None, 0
        self._recorder = SpeedRecorder(self.book, self.expected.key)
        self.observer.planned(self)
        make_room(self.take, self.expected, self.observer.report)
        try:
            try:
                self._render()
                self.observer.rendered(self)
            except keep_after as error:
                if not self.live.progress.chunk:
                    raise
                stopped = error
            try:
                self._join(stopped)
            except keep_after as error:
                if stopped is not None or isinstance(error, (OSError, ValueError)):
                    raise
                stopped = error
                self._join(stopped)
            if stopped is not None and then_raise:
                raise stopped
            seconds, ended = time.perf_counter() - began, self._ended(stopped)
            return FilmResult(self.path, self.frames, ended, self.take, self.live.progress, seconds)
        finally:
            stopped = None  # its traceback refers to this frame: the cycle would keep the models in memory

    def _render(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(self._disk_explained())
            stack.enter_context(self.host.session(self.expected.need))
            stack.callback(self.host.decoder.reset)
            contexts = self.host.contexts(self.request.plan.texts)

            def prepare() -> None:
                for text in cancellable(self.request.plan.texts):
                    contexts(text)  # before the model needs the device
                stack.enter_context(self.host.computing(self._left_to_allocate))

            follower = _Follower(self, prepare)
            model, decoder = self.host.model, self.host.decoder
            render_take(self.take, model, decoder, contexts, self.request.tags, follower, self.live, self.offloader)

    def _left_to_allocate(self) -> int:
        """Return the bytes that the run will allocate on the device beyond what it holds there now."""
        return max(0, self.expected.need.run - self.offloader.allocated)

    def _join(self, stopped: BaseException | None) -> None:
        """Write the film to `path`."""
        tags = self.request.tags(self.take)
        try:
            self.frames = self.take.join(self.path, tags, tags is not None)
        except (OSError, ValueError) as error:  # the disk may be full: report the first error
            if stopped is None:
                raise
            raise stopped from error
        finally:
            stopped = None  # as in `render`
        self._recorder.finish(os.path.getsize(self.path), self.frames)

    def _ended(self, stopped: BaseException | None) -> str:
        """Return how the film ended. An endless one is complete whenever it is ended."""
        if stopped is not None:
            return CANCELLED
        if self.live.progress.no_room is not None:
            return NO_ROOM
        if self.request.endless:
            return FINISHED if self.live.finishing else LONGEST if self.live.full else FULL
        return COMPLETE if self.live.progress.chunk >= self.take.plan.chunks else FINISHED


class _Follower(Observer):
    """Follows the render for the run, and passes everything on to the run's observer."""

    def __init__(self, run: FilmRun, prepare):
        self._run, self._prepare, self._rendered = run, prepare, 0
        self.step, self.report = run.observer.step, run.observer.report  # passed on unchanged

    def prepare(self) -> None:
        self._prepare()
        self._run.observer.prepare()

    def chunk(self, chunk: int, frames: np.ndarray | None) -> None:
        rendered = self._run.live.progress.rendered
        self._run._recorder.lap(rendered > self._rendered)
        self._rendered = rendered
        self._run.observer.chunk(chunk, frames)

    def changed(self, take: Take) -> None:
        self._run.take = take
        self._run.observer.changed(take)
