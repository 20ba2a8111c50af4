"""The exception for weight files, and how its messages list names."""

from __future__ import annotations

from collections.abc import Iterable


class CheckpointError(ValueError):
    """A weight file that cannot be used. The message names the file, what is wrong with it and what to do."""


def sample(names: Iterable[str], count: int = 3) -> str:
    """Return `3 (a, b, c)` or `14 (a, b, c, ...)`: the number of names, and the first few of them, sorted."""
    ordered = sorted(names)
    shown = ", ".join(ordered[:count]) + (", ..." if len(ordered) > count else "")
    return f"{len(ordered)} ({shown})"
