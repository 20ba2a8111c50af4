"""The take store: chunks of latents and their units of video by key, and the manifests of takes that use them.

    FOLDER/chunks/                            see `chunks.py`
    FOLDER/takes/<id>/take.json               what the take is: timeline, settings, keys (`manifest.py`)
    FOLDER/takes/<id>/film.mp4, growing.mp4   its film, and the film while it is rendered; film.1.mp4, growing.1.mp4
                                              if a player held those names open (`files/in_use.py`)
    FOLDER/takes/<id>.*.removed               what is left of a removed take (`removal.py`)

Chunks with equal keys are stored once, however many takes use them. Files appear whole or not at all, so a process that
is killed leaves at most a `.tmp` file. Several processes may use a store at once: equal keys mean equal content, and
code that removes chunks, or relies on stored chunks, holds the lock.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from ..cancelling import cancellable
from . import eviction, removal
from .chunks import keys_of, latents_name, unit_name
from .disk import UNFINISHED, entries, set_aside, write_whole, writing
from .errors import TakeError, TakeMissing
from .folder import REMOVED, StoreFolder
from .inventory import measure
from .locks import LOCK
from .manifest import Manifest
from .manifest_file import manifest_bytes
from .usage import StoreUsage, store_usage


class TakeStore(StoreFolder):
    """A folder of takes, with all that can be done to it.

    limit: bytes it may take; `make_room` removes the takes unused for longest to keep to it (None: no limit).
    """

    # --- chunks

    def has_latents(self, key: str) -> bool:
        return self.chunks.has(self.latents_path(key))

    def has_unit(self, key: str, unit: str) -> bool:
        return self.chunks.has(self.unit_path(key, unit))

    def save_latents(self, key: str, latents: Tensor) -> None:
        """Store a chunk, [1, C, T, h, w], in its dtype."""
        self.chunks.save_latents(key, latents)

    def load_latents(self, key: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return a chunk, float32 [1, C, T, h, w] on the CPU. shape: (T, h, w), if known. May raise ChunkDamaged."""
        return self.chunks.load_latents(key, shape)

    def sync(self, key: str) -> None:
        """Make a chunk's saved files survive a loss of power. Call it before the chunk is reported as done."""
        self.chunks.sync(key)

    def latents_path(self, key: str) -> Path:
        return self.chunks.latents_path(key)

    def unit_path(self, key: str, unit: str) -> Path:
        return self.chunks.unit_path(key, unit)

    def files_of(self, keys: Iterable[str]) -> set[str]:
        """Return the names of all files in these chunks' folders: faster than one check per file."""
        return self.chunks.files_of(keys)

    def with_latents(self, keys: Sequence[str]) -> list[str]:
        """Return the keys whose latents are stored, in order."""
        return keys_of(self.files_of(keys), latents_name(""), keys)

    def with_unit(self, keys: Sequence[str], unit: str) -> list[str]:
        """Return the keys whose unit of that name is stored, in order."""
        return keys_of(self.files_of(keys), unit_name("", unit), keys)

    def stored_keys(self) -> set[str]:
        """Return the keys of all chunks whose latents are stored, in one scan."""
        return self.chunks.keys()

    # --- takes

    def write_manifest(self, manifest: Manifest) -> None:
        """Store a take's manifest: from here on its chunks are kept. A folder or link of that name is moved aside."""
        data, path = manifest_bytes(manifest), self.manifest_path(manifest.id)
        with self.locked():
            with writing(path):
                if os.path.lexists(path.parent) and not path.parent.is_dir():
                    os.rename(path.parent, path.parent.with_name(f"{manifest.id}.{uuid.uuid4().hex[:8]}{REMOVED}"))
                elif path.is_dir():
                    set_aside(path)
            write_whole(path, data)

    def takes(self) -> Iterator[Manifest | TakeError]:
        """Yield every take, the newest first; one that cannot be read is yielded as its error."""
        found = []
        for folder in cancellable(self.take_folders()):
            if self.is_id(folder.name):
                try:
                    found.append(self.read_manifest(folder.name))
                except TakeError as error:
                    if isinstance(error, TakeMissing) and _is_bare(folder):
                        continue  # another process is creating it, or power was lost then: nothing to report
                    found.append(error)
        yield from sorted(found, key=_newness, reverse=True)

    def done(self, manifest: Manifest) -> int:
        """Return how many of a take's chunks are rendered."""
        return len(self.with_latents(manifest.keys))

    def rendered(self, manifest: Manifest, stored: Container[str] | None = None) -> int:
        """Return how many of a take's chunks are stored from its start to the first gap.

        stored: the result of `stored_keys`, if there are many takes to check.
        """
        has = self.has_latents if stored is None else stored.__contains__
        missing = (number for number, key in enumerate(manifest.keys) if not has(key))
        return next(missing, len(manifest.keys))

    # --- space

    def remove(self, take: str) -> int:
        """Remove a take and the chunks that no other take uses; return the bytes freed."""
        if not self.is_id(take) or not os.path.lexists(self.take_folder(take)):
            raise TakeError(f"there is no take {take} in '{self.folder}'; see `takes list`")
        return removal.remove(self, take)

    def forget(self, take: str) -> None:
        """Remove a take all of whose chunks another one uses. TakeError while it is rendered or played."""
        removal.forget(self, take)

    def make_room(self, needed: int, keep: str | Manifest) -> list[str]:
        """Remove unused files, and if there is a limit also takes, until `needed` more bytes fit.

        The takes unused for longest are removed first; never `keep`, never one that is being rendered or cannot be
        read, and none at all if removing all of them would not suffice. Return the ids of the removed takes.
        """
        return eviction.make_room(self, needed, keep)[0]

    def tidy(self, take: str) -> None:
        """Remove the files of a take that players held open when earlier renders ended. The caller renders it."""
        removal.tidy(self, take)

    def usage(self, film: Manifest) -> StoreUsage:
        """Return what fills the store, from the point of view of one film."""
        return store_usage(self, film)

    def size(self) -> int:
        """Return the bytes of everything in the store."""
        return measure(self)

    def size_of(self, manifest: Manifest) -> int:
        """Return the bytes of a take: its own files and its chunks, including those that other takes share."""
        return store_usage(self, manifest).film


def _newness(take: Manifest | TakeError) -> tuple[bool, float]:
    return take.newness if isinstance(take, Manifest) else (False, -1.0)


def _is_bare(folder: Path) -> bool:
    """Return whether a take's folder holds only a lock and unfinished files."""
    return all(entry.name == LOCK or entry.name.endswith(UNFINISHED) for entry in entries(folder))
