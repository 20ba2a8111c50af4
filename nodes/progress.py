"""Progress of a film in ComfyUI: the node's progress bar with previews, reports below the node, and our own events."""

from __future__ import annotations

import comfy.utils
import numpy as np
from PIL import Image

from ..longlive_core.run import reports
from ..longlive_core.run.film_run import FilmRun, RunObserver
from . import compat
from .stores import film_file

PREVIEW_SIZE = 512  # pixels, the longer side
MOST_PICTURES, MOST_MESSAGES = 32, 1000  # that may wait for clients; a picture is as large as the film's


class Watcher(RunObserver):
    """Reports a run to ComfyUI, and raises when the user cancels."""

    def __init__(self):
        self.node, self.prompt_id, self.client = compat.server.who_runs()

    def planned(self, run: FilmRun) -> None:
        # The run itself is not kept: it references this object, and the cycle would keep the models in memory.
        self._take, self._live = run.take, run.live
        self.passes = len(run.request.stream.denoising_steps) + 1
        self.total = run.request.plan.chunks * self.passes
        self.bar = comfy.utils.ProgressBar(self.total)

    def step(self, chunk: int, step: int) -> None:
        compat.check_cancelled()
        if compat.server.waiting() < MOST_MESSAGES:
            self.bar.update_absolute(min(chunk * self.passes + step, self.total), self.total)

    def chunk(self, chunk: int, frames: np.ndarray | None) -> None:
        compat.check_cancelled()
        waiting = compat.server.waiting()
        if waiting >= MOST_MESSAGES:  # a client has stopped reading: more messages would fill the memory
            return
        seen = frames is not None and waiting < MOST_PICTURES
        preview = ("JPEG", Image.fromarray(frames[-1]), PREVIEW_SIZE) if seen else None
        self.bar.update_absolute(min((chunk + 1) * self.passes, self.total), self.total, preview)
        self._send_event(chunk)

    def _send_event(self, chunk: int) -> None:
        # The growing film is in the folder of the original take, even after a new prompt gave the film another take.
        take, status = self._take, self._live.status(timeline=False)
        event = {
            "node": self.node,
            "prompt_id": self.prompt_id,
            **status,
            "chunk": chunk,
            "file": film_file(take.id, take.growing_name),
            "size": list(take.origin.size),
            "said": reports.progress_line(status, take.plan.fps),
        }
        compat.server.send("longlive.chunk", event, self.client)

    def report(self, text: str) -> None:
        """Show a text below the node, before the film is finished."""
        compat.server.send_text(text, self.node, self.client)
