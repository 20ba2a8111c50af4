"""Durable writes: files and names in folders that survive a loss of power.

A file's content and its name are synced by two different calls. Without them, after a loss of power a file may be
missing, empty, or full of zeros under its final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

# Some network and FUSE file systems cannot sync folders. A folder that may be written but not listed cannot be opened
# to sync it. In both cases nothing else can be done.
_NO_SUCH_CALL = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def sync_file(path: str | os.PathLike) -> None:
    """Sync the content of a written file to disk. OSError if the disk fails."""
    with open(path, "r+b") as file:  # Windows syncs only files opened for writing
        os.fsync(file.fileno())


def sync_folder(path: str | os.PathLike) -> None:
    """Sync the names in a folder: files created, renamed or removed there. OSError if the disk fails."""
    if os.name == "nt":  # folders cannot be opened on Windows; NTFS journals names
        return
    try:
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and sync them; an existing one is kept. OSError if that fails."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster
        path.mkdir()
    if not path.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    sync_folder(path.parent)
