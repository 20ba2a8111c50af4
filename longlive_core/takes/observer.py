"""Following a render: the one object that a program hands in to see what happens, and to stop it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from .take import Take

log = logging.getLogger(__name__)


class Observer:
    """Follows one film while it is rendered. Override what you need; by default reports are logged.

    Every method is called in the thread that renders. One that raises stops the render: the exception continues, and
    the chunks rendered so far remain a playable film.
    """

    def prepare(self) -> None:
        """Called before anything is computed; not at all if every chunk is stored and whole."""

    def step(self, chunk: int, step: int) -> None:
        """Called before each pass of the transformer. step: the pass in the chunk; a recache counts as its first."""

    def chunk(self, chunk: int, frames: np.ndarray | None) -> None:
        """Called after a chunk is stored. frames: uint8 [T, H, W, 3], or None if it was stored already."""

    def changed(self, take: Take) -> None:
        """Called after a new prompt or an earlier end gave the film a new take."""

    def report(self, text: str) -> None:
        """Called with a text for the user, one or more lines."""
        log.info("%s", text)
