"""The progress bar of `render`."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from ..run.film_run import FilmRun, RunObserver
from ..run.reports import repaired_line


class ProgressBar(RunObserver):
    """Shows a run on the console: a bar of frames, and lines above it."""

    def __init__(self, bar: tqdm):
        self._bar = bar

    def planned(self, run: FilmRun) -> None:
        self._chunks, self._frames_of = run.request.plan.chunks, run.take.frames_of
        if not run.temporary:
            self.report(run.reuse)
        if run.expected.made and run.expected.speed is not None:
            self.report(f"expected: {run.expected.describe_time()}")

    def chunk(self, chunk: int, frames: np.ndarray | None) -> None:
        self._bar.set_postfix_str(f"chunk {chunk + 1}/{self._chunks}", refresh=False)
        self._bar.update(self._frames_of(chunk))

    def rendered(self, run: FilmRun) -> None:
        progress = run.live.progress
        if progress.repaired:
            self.report(repaired_line(progress.repaired))
        for note in progress.notes:
            self.report(f"note: {note}")

    def report(self, text: str) -> None:
        self._bar.write(text)
