"""The folder of a store: where its files are, its locks, and how a manifest is read.

This is what everything that inspects or cleans a store needs to know; `store.py` builds on it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from ..files import nofollow
from ..files.durable import make_folder
from .chunks import Chunks
from .disk import UNFINISHED, entries, writing
from .errors import NotWritten, TakeError
from .locks import LOCK, NO_SPACE, TakeLock, is_held
from .manifest import MANIFEST, Manifest
from .manifest_file import read_manifest

REMOVED = ".removed"  # suffix of the folder of a take that was removed, until it is deleted
_ID = re.compile(r"[0-9a-f]{12}\Z")


class StoreFolder:
    """The files of a store.

    limit: bytes the store may take (None: no limit). create: False creates no folder and writes nothing, for reading a
    store that may not exist; it then appears empty. TakeError if takes cannot be stored in `folder`.
    """

    def __init__(self, folder: str | os.PathLike, limit: int | None = None, create: bool = True):
        self.folder, self.limit = Path(folder), limit
        self.chunks, self.takes_folder = Chunks(self.folder / "chunks"), self.folder / "takes"
        self.lock = FileLock(str(self.folder / LOCK))
        with self._storing():
            if create:
                self._create()
            elif self.folder.exists() and not self.folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = (
                "free some space (`takes remove`), or choose another folder"
                if error.errno in NO_SPACE
                else ("choose a folder you may write to")
            )
            raise NotWritten(f"takes cannot be kept in '{self.folder}' ({error.strerror}); {advice}") from error

    def _create(self) -> None:
        for folder in (self.chunks.folder, self.takes_folder):
            make_folder(folder)
        probe = self.folder / f"{uuid.uuid4().hex}{UNFINISHED}"
        nofollow.create(probe).close()
        probe.unlink()

    def check_writable(self) -> None:
        """Raise TakeError if a store in this folder is bound to fail. Writes nothing."""
        folder = self.folder.absolute()
        nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        with self._storing():
            if not nearest.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(nearest, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    # --- locks

    def acquire(self) -> None:
        """Acquire the store's lock. OSError if the folder cannot be written, or its lock file is not a lock."""
        nofollow.check_lock(self.folder / LOCK)
        self.lock.acquire()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store's lock: no process removes anything while it is held. TakeError for a read-only folder."""
        with writing(self.folder / LOCK):
            make_folder(self.folder)  # it may have been removed since
            self.acquire()
        try:
            yield
        finally:
            self.lock.release()

    def rendering(self, take: str) -> TakeLock:
        """Lock the take for this process, in a `with` block. TakeError if another process renders it."""
        return TakeLock(self.take_folder(take))

    def is_being_rendered(self, take: str) -> bool:
        """Return whether this or another process renders the take. Writes nothing."""
        return is_held(self.take_folder(take) / LOCK)

    # --- takes

    @staticmethod
    def is_id(name: str) -> bool:
        return _ID.match(name) is not None

    def take_folder(self, take: str) -> Path:
        return self.takes_folder / take

    def take_folders(self) -> list[Path]:
        """Return the folders of all takes, and the remains of removed ones."""
        return [Path(folder.path) for folder in entries(self.takes_folder)]

    def manifest_path(self, take: str) -> Path:
        return self.take_folder(take) / MANIFEST

    def has_manifest(self, take: str) -> bool:
        """Return whether the take has a manifest, readable or not."""
        return os.path.lexists(self.manifest_path(take))

    def read_manifest(self, take: str) -> Manifest:
        """Return a take's manifest. TakeError with the reason: no such take, damaged, or of a newer version."""
        if not self.is_id(take):
            raise TakeError(f"'{take}' is not the id of a take: those are twelve hexadecimal digits, see `takes list`")
        return read_manifest(self.manifest_path(take), take)
