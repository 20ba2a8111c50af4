"""The store of a run without a folder of takes: a hidden folder beside the film, which the run removes.

    .film.<random>.takes/    beside film.mp4; `.run.lock` in it is held as long as the run uses the folder

It is on the film's disk, not in the system's temporary folder, which may be main memory. If the process is killed, the
folder stays; the next run that writes a film of the same name there removes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..files import nofollow
from ..takes import TakeStore
from ..takes.chunks import Chunks
from ..takes.disk import writing
from ..takes.errors import NotWritten

log = logging.getLogger(__name__)

LOCK, SUFFIX = ".run.lock", ".takes"
# Characters of the film's name in the folder's name: with all of a long name it would be longer than a disk permits.
_NAME = 20
_RANDOM = "[a-z0-9_]{8}"  # what `tempfile` inserts


class TemporaryStore(TakeStore):
    """A store that one run uses, and no other process: it takes no lock, which not every file system supports. Its
    chunks need not survive a loss of power."""

    def __init__(self, folder: str):
        super().__init__(folder)
        self.chunks = Chunks(self.chunks.folder, durable=False)

    def acquire(self) -> None:
        pass

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield

    def rendering(self, take: str) -> _NoLock:
        return _NoLock()


class _NoLock:
    """A `TakeLock` of a store that no other process uses."""

    def acquire(self) -> None:
        pass

    release = renew = acquire


@contextlib.contextmanager
def temporary_store(film: Path) -> Iterator[TemporaryStore]:
    """Yield an empty store beside a film, and remove it at the end. TakeError if the disk refuses it."""
    remove_leftovers(film)
    with explained(film), writing(film.parent):
        folder = tempfile.TemporaryDirectory(
            prefix=_prefix(film), suffix=SUFFIX, dir=film.parent, ignore_cleanup_errors=True
        )
    try:
        lock = _lock(Path(folder.name))
        try:
            with explained(film):
                store = TemporaryStore(folder.name)
            yield store
        finally:
            if lock is not None:
                lock.release()
    finally:
        folder.cleanup()
        if os.path.lexists(folder.name):
            log.warning("'%s' could not be removed; the next film of this name removes it", folder.name)


@contextlib.contextmanager
def explained(film: Path) -> Iterator[None]:
    """Explain the disk's errors for a film whose chunks are kept only until its end."""
    try:
        yield
    except NotWritten as error:
        raise NotWritten(
            f"cannot keep the chunks of '{film}' beside it ({error.__cause__.strerror}); free some space or choose "
            "another folder. Without --takes FOLDER the chunks rendered before are not kept"
        ) from error.__cause__


def remove_leftovers(film: Path) -> None:
    """Remove the folders of earlier runs for a film of this name that were killed; never one that is in use."""
    name = re.compile(re.escape(_prefix(film)) + _RANDOM + re.escape(SUFFIX))
    with contextlib.suppress(OSError), os.scandir(film.parent) as entries:
        found = [Path(entry.path) for entry in entries if name.fullmatch(entry.name)]
        for folder in found:
            if folder.is_dir() and not nofollow.is_link(folder) and os.path.lexists(folder / LOCK):
                _remove_unused(folder)


def _remove_unused(folder: Path) -> None:
    try:
        nofollow.check_lock(folder / LOCK)
        lock = FileLock(str(folder / LOCK), timeout=0)
        lock.acquire()
    except (OSError, Timeout, NotImplementedError):  # in use, or that cannot be determined
        return
    try:
        if os.name != "nt":  # Windows removes no file that is open
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> FileLock | None:
    """Hold the folder's lock; None where the file system has none. Then the folder is never taken for a leftover."""
    lock = FileLock(str(folder / LOCK), timeout=0)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
        return None
    return lock


def _prefix(film: Path) -> str:
    return f".{film.stem[:_NAME]}."
