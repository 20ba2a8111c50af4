"""The take store: chunks of latents and their units of video by key, and the manifests of takes that use them.

    FOLDER/chunks/                            see `chunks.py`
    FOLDER/takes/<id>/take.json               what the take is: timeline, settings, keys (`manifest.py`)
    FOLDER/takes/<id>/film.mp4, growing.mp4   its film, and the same while it is rendered; film.1.mp4, growing.1.mp4
                                              where a player held those names (`in_use.py`)
    FOLDER/takes/<id>.*.removed               what is left of a removed take (`room.py`)

Chunks with equal keys lie there once, however many takes use them. Files appear whole or not at all, so a process that
is killed leaves at most a `.tmp` file. Several processes may use a store at once: equal keys mean equal content, and
what removes chunks, or counts on chunks that are there, holds the lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock
from torch import Tensor

from ..cancelling import cancellable
from ..files import nofollow
from ..files.durable import make_folder
from . import room
from .chunks import Chunks, keys_of, latents_name, unit_name
from .disk import UNFINISHED, entries, set_aside, write_whole, writing
from .errors import TakeError, TakeMissing
from .inventory import REMOVED, measure
from .locks import LOCK, NO_SPACE, TakeLock, is_held
from .manifest import MANIFEST, Manifest
from .manifest_file import manifest_bytes, read_manifest

_ID = re.compile(r"[0-9a-f]{12}\Z")


class TakeStore:
    """A folder of takes.

    limit: bytes it may take; `make_room` removes the takes unused for longest to keep to it (None: no limit).
    create: False makes no folder and writes nothing, to look at a store that may not be there; it then seems empty.
    TakeError where takes cannot be kept in `folder`.
    """

    def __init__(self, folder: str | os.PathLike, limit: int | None = None, create: bool = True):
        self.folder, self.limit = Path(folder), limit
        self.chunks, self.takes_folder = Chunks(self.folder / "chunks"), self.folder / "takes"
        self.lock = FileLock(str(self.folder / LOCK))
        with self._kept():
            if create:
                self._make()
            elif self.folder.exists() and not self.folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = (
                "free some space (`takes remove`), or choose another folder"
                if error.errno in NO_SPACE
                else ("choose a folder you may write to")
            )
            raise TakeError(f"takes cannot be kept in '{self.folder}' ({error.strerror}); {advice}") from error

    def _make(self) -> None:
        for place in (self.chunks.folder, self.takes_folder):
            make_folder(place)
        probe = self.folder / f"{uuid.uuid4().hex}{UNFINISHED}"
        nofollow.create(probe).close()
        probe.unlink()

    def check_writable(self) -> None:
        """TakeError where a store that keeps takes there is bound to fail; writes nothing."""
        folder = self.folder.absolute()
        place = next((place for place in (folder, *folder.parents) if place.exists()), folder)
        with self._kept():
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(place, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def acquire(self) -> None:
        """Have the store's lock. OSError where the folder cannot be written, or no lock lies in its place."""
        nofollow.check_lock(self.folder / LOCK)
        self.lock.acquire()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """While this is held, no process removes anything. TakeError where the folder cannot be written."""
        with writing(self.folder / LOCK):
            make_folder(self.folder)  # somebody may have removed it since
            self.acquire()
        try:
            yield
        finally:
            self.lock.release()

    # --- chunks

    def has_latents(self, key: str) -> bool:
        return self.chunks.has(self.latents_path(key))

    def has_unit(self, key: str, unit: str) -> bool:
        return self.chunks.has(self.unit_path(key, unit))

    def save_latents(self, key: str, latents: Tensor) -> None:
        """Keep a chunk, [1, C, T, h, w], in its dtype."""
        self.chunks.save_latents(key, latents)

    def load_latents(self, key: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A chunk, float32 [1, C, T, h, w] on the CPU. shape: (T, h, w), where it is known. ChunkDamaged."""
        return self.chunks.load_latents(key, shape)

    def settle(self, key: str) -> None:
        """From here on a loss of power does not take what was saved of a chunk: to be called before it is reported."""
        self.chunks.settle(key)

    def latents_path(self, key: str) -> Path:
        return self.chunks.latents_path(key)

    def unit_path(self, key: str, unit: str) -> Path:
        return self.chunks.unit_path(key, unit)

    def files_of(self, keys: Iterable[str]) -> set[str]:
        """The names of all files in the folders where these chunks lie: quicker than a look at each of many."""
        return self.chunks.files_of(keys)

    def with_latents(self, keys: Sequence[str]) -> list[str]:
        """Those of the keys of whose chunks there are latents, in their order."""
        return keys_of(self.files_of(keys), latents_name(""), keys)

    def with_unit(self, keys: Sequence[str], unit: str) -> list[str]:
        """Those of whose chunks there is the unit of that name."""
        return keys_of(self.files_of(keys), unit_name("", unit), keys)

    # --- takes

    @staticmethod
    def is_id(name: str) -> bool:
        return _ID.match(name) is not None

    def take_folder(self, take: str) -> Path:
        return self.takes_folder / take

    def take_folders(self) -> list[Path]:
        """Those of all takes, and what is left of removed ones."""
        return [Path(folder.path) for folder in entries(self.takes_folder)]

    def rendering(self, take: str) -> TakeLock:
        """Have a take for oneself, inside a `with` block. TakeError where another process renders it."""
        return TakeLock(self.take_folder(take))

    def is_being_rendered(self, take: str) -> bool:
        """Whether somebody renders it, in this process or another; writes nothing."""
        return is_held(self.take_folder(take) / LOCK)

    def write_manifest(self, manifest: Manifest) -> None:
        """From here on, the chunks that the take names stay. What lies in its place and is no file goes aside."""
        data, path = manifest_bytes(manifest), self.manifest_path(manifest.id)
        with self.locked():
            with writing(path):
                if os.path.lexists(path.parent) and not path.parent.is_dir():
                    os.rename(path.parent, path.parent.with_name(f"{manifest.id}.{uuid.uuid4().hex[:8]}{REMOVED}"))
                elif path.is_dir():
                    set_aside(path)
            write_whole(path, data)

    def has_manifest(self, take: str) -> bool:
        """Whether there is one, readable or not."""
        return os.path.lexists(self.manifest_path(take))

    def read_manifest(self, take: str) -> Manifest:
        """TakeError with the reason: no such take, damaged, or of a newer version."""
        if not self.is_id(take):
            raise TakeError(f"'{take}' is not the id of a take: those are twelve hexadecimal digits, see `takes list`")
        return read_manifest(self.manifest_path(take), take)

    def manifest_path(self, take: str) -> Path:
        return self.take_folder(take) / MANIFEST

    def takes(self) -> Iterator[Manifest | TakeError]:
        """Every take, the newest first; what cannot be read comes as its error."""
        found = []
        for folder in cancellable(self.take_folders()):
            if self.is_id(folder.name):
                try:
                    found.append(self.read_manifest(folder.name))
                except TakeError as error:
                    if isinstance(error, TakeMissing) and _is_bare(folder):
                        continue  # one that is being begun, or that power was lost in: there is nothing to report
                    found.append(error)
        yield from sorted(found, key=_newness, reverse=True)

    def done(self, manifest: Manifest) -> int:
        """How many of a take's chunks are rendered."""
        return len(self.with_latents(manifest.keys))

    def rendered(self, manifest: Manifest, there: Container[str] | None = None) -> int:
        """How many of a take's chunks are there from its start on, to the first gap. there: `stored_keys`, for many."""
        has = self.has_latents if there is None else there.__contains__
        missing = (number for number, key in enumerate(manifest.keys) if not has(key))
        return next(missing, len(manifest.keys))

    def stored_keys(self) -> set[str]:
        """The keys of all chunks whose latents are there, read at once."""
        return self.chunks.keys()

    # --- room

    def remove(self, take: str) -> int:
        """Remove a take and the chunks that no other take uses; returns the bytes freed."""
        if not self.is_id(take) or not os.path.lexists(self.take_folder(take)):
            raise TakeError(f"there is no take {take} in '{self.folder}'; see `takes list`")
        return room.remove(self, take)

    def forget(self, take: str) -> None:
        """Remove a take all of whose chunks another one uses. TakeError while it is rendered or played."""
        room.forget(self, take)

    def make_room(self, needed: int, keep: str | Manifest) -> list[str]:
        """Remove what nobody uses any more, and where there is a limit takes, until `needed` more bytes fit.

        Those unused for longest go first, never `keep`, never one that is being rendered or cannot be read, and none
        where all of them are too few. Returns what went.
        """
        return room.make_room(self, needed, keep)[0]

    def tidy(self, take: str) -> None:
        """Remove what players held when renders of a take ended. To be called while nobody else renders it."""
        room.tidy(self, take)

    def usage(self, film: Manifest) -> room.StoreUsage:
        """What fills the store, as a film in it sees that."""
        return room.store_usage(self, film)

    def size(self) -> int:
        """Bytes of everything in the store."""
        return measure(self)

    def size_of(self, manifest: Manifest) -> int:
        """Bytes of a take: its own files, and its chunks, whoever else uses them."""
        return room.store_usage(self, manifest).film


def _newness(take: Manifest | TakeError) -> tuple[bool, float]:
    return take.newness if isinstance(take, Manifest) else (False, -1.0)


def _is_bare(folder: Path) -> bool:
    """Whether a take's folder holds no more than a lock and what was not finished."""
    return all(entry.name == LOCK or entry.name.endswith(UNFINISHED) for entry in entries(folder))
