"""What a loss of power does not take: bytes of files, and names in folders.

A file's content and its name are kept by two different calls. What is written and renamed without them is there until
the power fails, and afterwards a file may be gone, empty, or full of zeros under its final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

# Some network and FUSE file systems know no such call for folders, and a folder that may be written but not listed
# cannot be opened for it; nothing else can be done there.
_NO_SUCH_CALL = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def sync_file(path: str | os.PathLike) -> None:
    """Keep the content of a file that is written. OSError where the disk fails."""
    with open(path, "r+b") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())


def sync_folder(path: str | os.PathLike) -> None:
    """Keep the names in a folder: files that were made, renamed or removed there. OSError where the disk fails."""
    if os.name == "nt":  # folders cannot be opened there; NTFS journals names
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
    """Make a folder, and those that it lies in, and keep them; one that is there stays. OSError where that fails."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster
        path.mkdir()
    if not path.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    sync_folder(path.parent)
