"""Locks: one for the store, held while chunks are removed or relied on, and one per take, held by its render.

A lock is a file that is never deleted. If it does not exist, the lock is free, so checking it needs no writing.
"""

from __future__ import annotations

import errno
from pathlib import Path

from filelock import FileLock, Timeout

from ..files import nofollow
from ..files.durable import make_folder
from .disk import writing
from .errors import TakeError

LOCK = ".lock"  # name of the lock file in a folder
NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # no bytes left, or no space for one more file


def is_held(path: Path) -> bool:
    """Return whether a lock is held, or that cannot be determined. Creates no file."""
    try:
        nofollow.check_lock(path)
    except nofollow.UnsafePath:  # no process can hold it
        return False
    if not path.exists():
        return False
    lock = FileLock(str(path), timeout=0)
    try:
        lock.acquire()
    except (Timeout, PermissionError):  # another user's lock: it cannot be acquired, and whether it is free is unknown
        return True
    except OSError:  # a read-only disk: no process renders there
        return False
    lock.release()
    return False


class TakeLock:
    """The lock of one take, in its folder, which is created. TakeError if another process renders the take."""

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
        """Acquire it again if its file was removed: other processes would see it as free."""
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
