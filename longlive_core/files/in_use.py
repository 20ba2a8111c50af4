"""Files that another program holds open, such as a player that shows a film.

On Windows such a file can be neither replaced nor removed (PermissionError); elsewhere it can. What is finished must
not fail for that: it gets a spare name, or the leftover is removed at the next chance.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .nofollow import is_link

PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds: a reader or a virus scanner lets go in a moment, a player does not
_SPARES = 9


def replace(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """As os.replace, but tried for a moment while somebody holds `target`; then its PermissionError."""
    for pause in PAUSES:
        with contextlib.suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(pause)
    os.replace(source, target)


def remove(path: Path) -> bool:
    """Remove a file, if there is one; False where somebody holds it, or a folder lies there."""
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):
        return False
    return True


def spare_names(path: Path) -> Iterator[Path]:
    """Where a file goes whose own name is held: film.1.mp4, film.2.mp4, ... for film.mp4."""
    for number in range(1, _SPARES + 1):
        yield path.with_name(f"{path.stem}.{number}{path.suffix}")


def spares_of(path: Path) -> list[Path]:
    """Those of `spare_names` that are there; a link that somebody put there is not the film."""
    return [spare for spare in spare_names(path) if spare.is_file() and not is_link(spare)]
