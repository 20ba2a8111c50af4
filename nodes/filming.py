"""One run of the Stream Sampler: its inputs become a `FilmRun`, and its result a report for the user."""

from __future__ import annotations

import logging
import os
import uuid
from dataclasses import dataclass
from typing import Any

import folder_paths

from ..longlive_core.cancelling import cancellable
from ..longlive_core.config import StreamConfig
from ..longlive_core.film.video import check_writable
from ..longlive_core.run import reports
from ..longlive_core.run.film_run import COMPLETE, FilmRequest, FilmResult, FilmRun
from ..longlive_core.run.speed import SpeedBook
from ..longlive_core.takes import Take, extended
from ..longlive_core.timeline import check_first, plan_text
from . import compat
from .comfy_host import ComfyHost
from .handles import TakeHandle
from .progress import Watcher
from .routes.live import showing
from .starts import Start
from .stores import open_store
from .timeline import Timeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filmed:
    """Result of a run.

    path: the film, in ComfyUI's temporary folder. as_requested: whether it is the film that the inputs request, not
    one that was cancelled, finished early or given other prompts.
    """

    path: str
    report: dict[str, Any]
    take: TakeHandle
    as_requested: bool


class Filming:
    """Renders one film; everything is checked before anything is computed.

    Args:
        size: (width, height) in pixels.
        start: what the film begins with.
    """

    def __init__(
        self,
        model,
        vae,
        timeline: Timeline,
        stream: StreamConfig,
        seed: int,
        size: tuple[int, int],
        start: Start | None = None,
    ):
        self.timeline, self.start, self.store = timeline, start or Start(), open_store()
        self.host = ComfyHost(model, vae, timeline)
        if timeline.endless:
            stream.check_endless()
        path = _film_path()
        with self.store.locked():  # the take that the film extends stays until the film has a manifest
            film = self._film(stream, seed, size)
            self.film_run = FilmRun(self.host, film, path, self.store, Watcher(), SpeedBook())
            self.film_run.begin()

    @property
    def take(self) -> Take:
        return self.film_run.take

    def run(self, keep_partial: bool) -> Filmed:
        """Render. Cancel raises; with `keep_partial` and a first chunk it ends the film there."""
        run, watcher = self.film_run, self.film_run.observer
        log.info("%s\n%s", run.reuse, run.expected.describe())
        watcher.report(self._report_before())
        with showing(watcher.node, watcher.prompt_id, run.live):
            result = run.render(keep_after=(compat.Cancelled,) if keep_partial else ())
        handle = TakeHandle(str(self.store.folder), result.take.id, result.progress.chunk)
        as_requested = result.ended == COMPLETE and result.take.plan is run.request.plan
        return Filmed(str(result.path), self._report(result), handle, as_requested)

    def _film(self, stream: StreamConfig, seed: int, size: tuple[int, int]) -> FilmRequest:
        plan, text, start = self.timeline.plan(stream.chunk), self.timeline.text, self.start.given
        if isinstance(start, TakeHandle):
            plan, start = extended(self.store, start.id, start.chunks, plan, size)
            text = plan_text(plan)
        else:
            check_first(self.timeline.script.segments[0])
        return FilmRequest(plan, text, stream, seed, size, start, self._model_name(), self.timeline.endless)

    def _model_name(self) -> str | None:
        """Return the model's name for the film's metadata; None if the user wants none."""
        config = self.host.model.config
        return f"Wan 2.1, width {config.dim}, {config.num_layers} layers" if compat.metadata_wanted() else None

    def _report_before(self) -> str:
        run = self.film_run
        return reports.beginning_report(
            run.expected, run.reused, run.reason, run.request.endless, self.host.effects.without, self._hints()
        )

    def _hints(self) -> list[str]:
        """Return how the film differs from what its inputs suggest, also by prompts typed while it was rendered."""
        run = self.film_run
        cuts = (compat.text.text_cut(self.timeline.clip, text) for text in cancellable(run.take.plan.texts))
        return [*self.start.notes, *run.live.progress.notes, *(cut for cut in cuts if cut is not None)]

    def _report(self, result: FilmResult) -> dict[str, Any]:
        """Return what the node shows, and what programs read; see docs/api.md."""
        facts = {
            **self._settings(),
            **reports.result_facts(result, self.film_run),
            "honoured": self.host.effects.honoured,
            "no_effect": self.host.effects.without,
            "hints": self._hints(),
        }
        return {**facts, "summary": reports.film_report(facts, self.film_run.reused, self.film_run.reason)}

    def _settings(self) -> dict[str, Any]:
        run = self.film_run
        return {
            "width": run.request.size[0],
            "height": run.request.size[1],
            "seed": run.request.seed,
            "positions": run.request.stream.positions,
            "dtype": run.take.origin.dtype,
            "placement": run.expected.need.placement.name,
            "vae_dtype": str(self.host.decoder.dtype).removeprefix("torch."),
            "expected_seconds": run.expected.seconds,
            "reused": run.reuse,
        }


def _film_path() -> str:
    """Return a new file's path in ComfyUI's temporary folder; ValueError if none can be written there."""
    folder = folder_paths.get_temp_directory()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"ComfyUI's temporary folder {folder} cannot be made ({error.strerror}); choose another with "
            "--temp-directory"
        ) from error
    path = os.path.join(folder, f"longlive_{uuid.uuid4().hex[:12]}.mp4")
    check_writable(path)
    return path
