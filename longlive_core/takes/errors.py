"""What takes report to their user."""

from __future__ import annotations

import os

from ..words.visible import make_visible


class TakeError(ValueError):
    """A take that cannot be used, with the reason. take: its id, in what `TakeStore.takes` lists."""

    take = ""

    def __init__(self, message: str):
        super().__init__(make_visible(message, lines=True))  # it may quote what somebody else wrote


class TakeMissing(TakeError):
    """There is no such take."""


class ChunkDamaged(TakeError):
    """A stored file of a chunk is not what was written.

    Attributes:
        path: of the file. reason: what is wrong with it.
        key: the chunk's.
        unit: name of the encoding of its damaged video; None: its latents are damaged.
        aside: whether the file was set aside, so that the next render makes it again.
    """

    def __init__(self, path: os.PathLike, reason: object, key: str, unit: str | None, aside: bool):
        self.path, self.reason, self.key, self.unit, self.aside = path, reason, key, unit, aside
        super().__init__(self._message(path, reason))

    def _message(self, path: os.PathLike, reason: object) -> str:
        what = (
            "it was set aside, and is made again when the take is rendered again"
            if self.aside
            else ("it is made again when the take is rendered again, once the folder can be written")
        )
        return f"'{path}' is damaged: {reason}; {what}"


class ChunkMissing(ChunkDamaged):
    """A stored file of a chunk is gone."""

    def _message(self, path: os.PathLike, reason: object) -> str:
        return f"'{path}' is gone; it is made again when the take is rendered again"
