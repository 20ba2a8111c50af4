"""Files of a store: each appears whole or not at all, and survives a loss of power."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..files import in_use, nofollow
from ..files.durable import make_folder, sync_folder
from .errors import NotWritten, TakeError

UNFINISHED = ".tmp"  # suffix of a file that is still being written
DAMAGED = ".damaged"  # suffix of a file that was set aside


@contextlib.contextmanager
def writing(path: os.PathLike) -> Iterator[None]:
    """Turn the disk's errors inside the block into TakeError, those of a full or failing disk into NotWritten."""
    try:
        yield
    except nofollow.UnsafePath as error:
        raise TakeError(f"'{path}' is not written: {error.strerror}") from error
    except OSError as error:
        what = "close what uses it" if isinstance(error, PermissionError) else "free some space"
        raise NotWritten(
            f"cannot write '{path}' ({error.strerror}); {what} or choose another folder. What was rendered "
            "before is kept"
        ) from error


def write_whole(path: Path, data: bytes, synced: bool = True, durable: bool = True) -> None:
    """Write a file, and create its folder. It appears whole or not at all. TakeError if the disk refuses.

    It survives a loss of power, with synced=False only after `sync` was called for its folder, which covers several
    files at once. durable=False: nothing is synced, for files that are removed soon.
    """
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{UNFINISHED}")
    with writing(path):
        nofollow.check_folder(path.parent)
        make_folder(path.parent)
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            in_use.replace(part, path)
        except OSError:
            in_use.remove(part)
            raise
        if synced and durable:
            sync_folder(path.parent)


def sync(folder: Path) -> None:
    """Make creations, renames and removals in a folder survive a loss of power. TakeError if the disk refuses."""
    with writing(folder):
        sync_folder(folder)


def set_aside(path: Path) -> bool:
    """Rename a damaged file so that it can be created again; return False if that is impossible."""
    try:
        os.rename(path, path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{DAMAGED}"))
    except OSError:
        return False
    return True


def entries(folder: Path) -> list[os.DirEntry]:
    """Return the entries of a folder; [] if it does not exist."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as found:
        return list(found)
    return []


def age(path: Path) -> float:
    """Return the age of a file, up to a constant: for comparing files."""
    return -path.stat().st_mtime


def bytes_of(paths) -> int:
    """Return the bytes of these files; files that another process has removed count 0."""
    total = 0
    for path in paths:
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
