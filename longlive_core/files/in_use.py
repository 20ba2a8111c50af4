"""Files that another program has open, such as a player that shows a film.

On Windows such a file can be neither replaced nor removed (PermissionError); elsewhere it can. A finished film must not
fail for that: it gets a spare name, or the old file is removed at the next opportunity.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from .nofollow import is_link

PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds: a reader or a virus scanner closes the file soon, a player does not
_SPARES = 9


def replace(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Like os.replace, but retry briefly while another program has `target` open; then raise its PermissionError."""
    for pause in PAUSES:
        with contextlib.suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(pause)
    os.replace(source, target)


def remove(path: Path) -> bool:
    """Remove a file if it exists; return False if another program has it open, or it is a folder."""
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):
        return False
    return True


def spare_names(path: Path) -> Iterator[Path]:
    """Yield spare names for a file whose own name is in use: film.1.mp4, film.2.mp4, ... for film.mp4."""
    for number in range(1, _SPARES + 1):
        yield path.with_name(f"{path.stem}.{number}{path.suffix}")


def spares_of(path: Path) -> list[Path]:
    """Return the `spare_names` that exist as files; links are not ours."""
    return [spare for spare in spare_names(path) if spare.is_file() and not is_link(spare)]
