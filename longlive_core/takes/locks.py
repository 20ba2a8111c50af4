"""Locks of a store: of the whole, for what removes chunks or counts on them, and of each take, for who renders it.

A lock is a file that stays. Where there is none, nobody holds it, so to ask needs no writing.
"""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import FileLock, Timeout

from ..files import nofollow
from ..files.durable import make_folder
from .disk import writing
from .errors import TakeError

LOCK = ".lock"  # its name in a folder
NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # no bytes, or no room for one more file


def is_held(path: Path) -> bool:
    """Whether somebody holds that lock, or nobody can tell; makes no file."""
    try:
        nofollow.check_lock(path)
    except nofollow.UnsafePath:  # which nobody can hold
        return False
    if not path.exists():
        return False
    lock = FileLock(str(path), timeout=0)
    try:
        lock.acquire()
    except (Timeout, PermissionError):  # of another user, it can neither be held nor be seen to be free
        return True
    except OSError:  # a read-only disk: nobody renders there
        return False
    lock.release()
    return False


class TakeLock:
    """Of one take, in its folder, which is made for it. TakeError where another process renders the take."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, None

    def __enter__(self) -> TakeLock:
        self.acquire()
        return self

    def __exit__(self, *error) -> None:
        self.release()

    def acquire(self) -> None:
        self._lock = self._acquired()

    def release(self) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Hold it again where somebody removed its file: another process would find it free."""
        if not (self._folder / LOCK).exists():
            lost, self._lock = self._lock, self._acquired()
            lost.release()

    def _acquired(self) -> FileLock:
        lock = FileLock(str(self._folder / LOCK), timeout=0)
        with writing(self._folder / LOCK):
            nofollow.check_folder(self._folder)
            make_folder(self._folder)
            nofollow.check_lock(self._folder / LOCK)
            try:
                lock.acquire()
            except Timeout as error:
                raise TakeError(
                    f"take {self._folder.name} is being rendered by another process; wait for it"
                ) from error
        return lock
