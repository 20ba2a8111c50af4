"""What takes report to their user."""

from __future__ import annotations


class TakeError(ValueError):
    """A take that cannot be used, with the reason. take: its id, in what `TakeStore.takes` lists."""

    take = ""


class TakeMissing(TakeError):
    """There is no such take."""
