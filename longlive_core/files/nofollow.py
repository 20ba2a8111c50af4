"""Creating and reading files without following links, pipes or folders that others put in their place.

Any user who may write into a shared folder can put a link there under a predictable name, such as `film.mp4.part`;
writing to that name would overwrite the file it leads to, and opening a pipe would block forever. So files are always
newly created, and folders and locks, which are used if they exist, are checked first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


class UnsafePath(OSError):
    """A link, pipe or folder is in a file's place. strerror: what to do about it."""


_TRIES = 5  # another program may create the name between our removing and creating it


def create(path: str | os.PathLike) -> BinaryIO:
    """Create a new, empty, unbuffered file at `path`; replace an existing file.

    A link, hard link or pipe is removed, never what it leads to. OSError for a folder, and if another program has the
    file open (Windows).
    """
    for _ in range(_TRIES):
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            return open(path, "x+b", buffering=0)  # noqa: SIM115 - the caller closes it; "x" follows no link
    raise UnsafePath(errno.EEXIST, "another program creates it again and again", os.fspath(path))


def read(path: str | os.PathLike, most: int | None = None) -> bytes:
    """Return the content of a file of at most `most` bytes.

    OSError for a larger file, and for anything else, such as a pipe, on which an ordinary read would block forever.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise UnsafePath(errno.EINVAL, "it is not a file; remove it", os.fspath(path))
        if most is not None and found.st_size > most:
            raise UnsafePath(errno.EFBIG, f"it has {found.st_size} bytes, and at most {most} are read", os.fspath(path))
        return file.read()


def is_link(path: str | os.PathLike) -> bool:
    """Return whether a path is a symbolic link or, on Windows, a junction."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    return stat.S_ISLNK(found.st_mode) or (
        junction is not None and getattr(found, "st_reparse_tag", 0) == junction and bool(found.st_reparse_tag)
    )


def check_folder(path: Path) -> None:
    """Raise OSError if a folder of ours is a link, so that its content is elsewhere. It may be missing."""
    if is_link(path):
        raise UnsafePath(
            errno.ELOOP,
            f"its folder '{path}' is a link, and nothing is written through links: remove it, "
            "or link the whole folder of takes",
            os.fspath(path),
        )


def check_lock(path: Path) -> None:
    """Raise OSError if something other than a lock file is in its place.

    Older versions of filelock would empty the file that a link leads to, and block on a pipe.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or is_link(path) or (found.st_nlink > 1 and found.st_size):
        raise UnsafePath(
            errno.EEXIST, "a lock file belongs here, but this is a link, a pipe or a folder; remove it", os.fspath(path)
        )
