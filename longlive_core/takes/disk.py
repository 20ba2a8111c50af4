"""Files of a store: each appears whole, or not at all, and stays when the power fails."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..files import in_use, nofollow
from ..files.durable import make_folder, sync_folder
from .errors import TakeError

UNFINISHED = ".tmp"  # how the name of a file ends that is not whole yet
DAMAGED = ".damaged"  # and of one that was set aside


@contextlib.contextmanager
def writing(path: os.PathLike) -> Iterator[None]:
    """Turn the disk's errors inside the block into a TakeError."""
    try:
        yield
    except nofollow.UnsafePath as error:
        raise TakeError(f"'{path}' is not written: {error.strerror}") from error
    except OSError as error:
        what = "close what uses it" if isinstance(error, PermissionError) else "free some space"
        raise TakeError(
            f"cannot write '{path}' ({error.strerror}); {what} or choose another folder. What was rendered "
            "before is kept"
        ) from error


def write_whole(path: Path, data: bytes, settled: bool = True) -> None:
    """Write a file, its folder too; it appears whole, or not at all. TakeError where the disk takes no more.

    A loss of power does not take it, unless settled is False: then only once `settle` was called for its folder, which
    does for several files at once.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    with writing(path):
        nofollow.check_folder(path.parent)
        make_folder(path.parent)
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            in_use.replace(part, path)
        except OSError:
            in_use.remove(part)
            raise
        if settled:
            sync_folder(path.parent)


def settle(folder: Path) -> None:
    """From here on a loss of power keeps what was made, renamed or removed in a folder. TakeError where it cannot."""
    with writing(folder):
        sync_folder(folder)


def set_aside(path: Path) -> bool:
    """Take a damaged file out of the way, so that it can be made again; False where that cannot be."""
    try:
        os.rename(path, path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{DAMAGED}"))
    except OSError:
        return False
    return True


def entries(folder: Path) -> list[os.DirEntry]:
    """What lies in a folder; nothing where there is none."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        return list(found)
    return []


def age(path: Path) -> float:
    """Seconds before now in which it was written last, but for a constant."""
    return -path.stat().st_mtime


def bytes_of(paths) -> int:
    """Bytes of these files; those that another process removed meanwhile take none."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
