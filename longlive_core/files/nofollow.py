"""Links, pipes and folders that somebody put where a file of ours is to lie. Nothing is ever written through them.

Whoever may write into a folder - a shared output folder, a temporary one - can put a link there under a name that is
known beforehand, such as `film.mp4.part`, and what is written to that name would replace the file it leads to; opening
a pipe waits for ever. So files are made anew, under names where nothing lies; and folders and locks, which are used as
they are found, are looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


class UnsafePath(OSError):
    """Something that is not ours lies in a file's place. strerror: what to do about it."""


_TRIES = 5  # between removing what lies there and making the file somebody else may be faster


def create(path: str | os.PathLike) -> BinaryIO:
    """A new, empty file in the place of whatever lies at `path`, to be read and written without a buffer.

    Of a link, a second name of a file or a pipe that name goes, never what it leads to. OSError for a folder, and where
    a program holds what lies there (Windows).
    """
    for _ in range(_TRIES):
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            return open(path, "x+b", buffering=0)  # noqa: SIM115 - whoever asked for it closes it; "x" follows no link
    raise UnsafePath(errno.EEXIST, "another program puts something there again and again", os.fspath(path))


def read(path: str | os.PathLike, most: int | None = None) -> bytes:
    """The content of a file of at most so many bytes.

    OSError for a larger one, and for what is none, such as a pipe, at which an ordinary reader waits for ever.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise UnsafePath(errno.EINVAL, "it is not a file; remove it", os.fspath(path))
        if most is not None and found.st_size > most:
            raise UnsafePath(errno.EFBIG, f"it has {found.st_size} bytes, and {most} are the most", os.fspath(path))
        return file.read()


def is_link(path: str | os.PathLike) -> bool:
    """Whether it leads elsewhere, as a symbolic link or, on Windows, a junction."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    return stat.S_ISLNK(found.st_mode) or (
        junction is not None and getattr(found, "st_reparse_tag", 0) == junction and bool(found.st_reparse_tag)
    )


def check_folder(path: Path) -> None:
    """Raise OSError where a folder of ours, which may be missing, is a link: what is in it lies elsewhere."""
    if is_link(path):
        raise UnsafePath(
            errno.ELOOP,
            f"its folder '{path}' is a link, and nothing is written through those: remove it, "
            "or link the whole folder of takes",
            os.fspath(path),
        )


def check_lock(path: Path) -> None:
    """Raise OSError where something lies in a lock's place that is not a lock: older filelocks would empty a file that
    a link leads to, and wait at a pipe."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or is_link(path) or (found.st_nlink > 1 and found.st_size):
        raise UnsafePath(
            errno.EEXIST, "a lock file belongs here, but this is a link, a pipe or a folder; remove it", os.fspath(path)
        )
