"""Errors that takes report to the user."""

from __future__ import annotations

import os

from ..words.visible import make_visible


class TakeError(ValueError):
    """A take cannot be used, for the reason given. take: its id, in errors that `TakeStore.takes` yields."""

    take = ""

    def __init__(self, message: str):
        super().__init__(make_visible(message, lines=True))  # it may quote an untrusted file


class NotWritten(TakeError):
    """The disk refused a file of a store; `__cause__` is its OSError."""


class TakeMissing(TakeError):
    """There is no such take."""


class ChunkDamaged(TakeError):
    """A stored file of a chunk is not what was written.

    Attributes:
        path: path of the file. reason: what is wrong with it.
        key: key of the chunk.
        unit: name of the encoding of the damaged video; None: the latents are damaged.
        aside: whether the file was set aside, so that the next render renders it again.
    """

    def __init__(self, path: os.PathLike, reason: object, key: str, unit: str | None, aside: bool):
        self.path, self.reason, self.key, self.unit, self.aside = path, reason, key, unit, aside
        super().__init__(self._message(path, reason))

    def _message(self, path: os.PathLike, reason: object) -> str:
        what = (
            "it was set aside, and is rendered again when the take is resumed"
            if self.aside
            else ("it is rendered again when the take is resumed, once the folder can be written")
        )
        return f"'{path}' is damaged: {reason}; {what}"


class ChunkMissing(ChunkDamaged):
    """A stored file of a chunk is missing."""

    def _message(self, path: os.PathLike, reason: object) -> str:
        return f"'{path}' is missing; it is rendered again when the take is resumed"
