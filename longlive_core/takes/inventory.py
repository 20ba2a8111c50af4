"""The inventory of a store: its chunks, its takes and leftover files, read once for all decisions about space.

A take whose manifest cannot be read may use any chunk that no other take names. It certainly uses those that its file
still shows; of the others this is unknown.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..files import nofollow
from .chunks import LATENTS
from .disk import DAMAGED, UNFINISHED
from .errors import TakeError
from .folder import REMOVED, StoreFolder
from .locks import LOCK
from .manifest import Manifest
from .manifest_file import MOST_BYTES

ABANDONED = 24 * 3600.0  # seconds after which an unfinished file, or one that no take names, is no longer in use
RECENT = 3600.0  # seconds; for a younger chunk, the manifest that names it may not be written yet
VIDEO = ".mp4"
_PARTS = (UNFINISHED, ".part", DAMAGED)  # suffixes of leftover files
_CHUNK = re.compile(r"[0-9a-f]{16,}(?:\.safetensors|\.[0-9a-z]+\.mp4)")  # the name of a chunk's file
_NAMED = re.compile(rb'"([0-9a-f]{16,64})"')


class FileEntry(NamedTuple):
    """A file. written: time of its last change, in seconds since 1970."""

    path: str
    name: str
    bytes: int
    written: float


@dataclass
class Inventory:
    """The content of a store.

    Attributes:
        chunks: files of latents and units, by name.
        takes: their manifests by id, or what is wrong with them; None without a manifest.
        folders: the files in those folders, manifests and films.
        claims: names of the files that each take uses; for one that cannot be read, those that its file still shows.
        users: how many takes use each file.
        leftovers: old unfinished files, in any folder.
        removed: folders of removed takes, with their bytes.
        other: bytes of everything else.
    """

    chunks: dict[str, FileEntry] = field(default_factory=dict)
    takes: dict[str, Manifest | TakeError | None] = field(default_factory=dict)
    folders: dict[str, list[FileEntry]] = field(default_factory=dict)
    claims: dict[str, set[str]] = field(default_factory=dict)
    users: Counter = field(default_factory=Counter)
    leftovers: list[FileEntry] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)
    other: int = 0

    @property
    def size(self) -> int:
        """Bytes of everything."""
        files = [self.chunks.values(), *self.folders.values(), self.leftovers]
        return sum(map(total, files)) + sum(self.removed.values()) + self.other

    @property
    def unreadable(self) -> list[str]:
        """Ids of the takes whose manifests cannot be read."""
        return [take for take, manifest in self.takes.items() if isinstance(manifest, TakeError)]

    def orphans(self, seconds: float = 0.0) -> set[str]:
        """Return the names of chunk files that no readable take uses and that are older than `seconds`."""
        old = time.time() - seconds
        return {name for name, file in self.chunks.items() if not self.users[name] and file.written < old}

    def own(self, take: str) -> int:
        """Return the bytes in a take's folder."""
        return total(self.folders.get(take, ()))

    def used_by(self, names: Iterable[str]) -> int:
        """Return the bytes of the chunk files of these names."""
        return total(self.chunks[name] for name in names if name in self.chunks)

    def claim(self, take: str, names: set[str]) -> None:
        """Record that a take uses these files, as far as they exist."""
        self.users.subtract(self.claims.get(take, ()))
        self.claims[take] = names & self.chunks.keys()
        self.users.update(self.claims[take])

    def measure(self, take: str, folder: Path) -> None:
        """Measure a take's folder again."""
        self.folders[take] = [file for entry in _entries(folder) for file in files_in(entry)]

    def measure_removed(self, folder: str) -> None:
        """Measure again what is left of a removed take."""
        self.removed.pop(folder, None)
        if os.path.lexists(folder):
            own = 0 if os.path.isdir(folder) else os.lstat(folder).st_size
            self.removed[folder] = own + total(file for entry in _entries(folder) for file in files_in(entry))

    def forget(self, take: str, rest: Path) -> set[str]:
        """Record that a take was removed; return the names it used. rest: path of what could not be removed."""
        folder = os.path.join(os.path.dirname(rest), take) + os.sep
        self.leftovers = [file for file in self.leftovers if not file.path.startswith(folder)]
        del self.folders[take], self.takes[take]
        self.measure_removed(os.fspath(rest))
        names = self.claims.pop(take)
        self.users.subtract(names)
        return names


def names_of(take: Manifest) -> set[str]:
    """Return the names of the files of a take's chunks."""
    return {name for key in take.keys for name in (f"{key}{LATENTS}", f"{key}.{take.unit}{VIDEO}")}


def total(files: Iterable[FileEntry]) -> int:
    """Return the bytes of these files."""
    return sum(file.bytes for file in files)


def measure(store: StoreFolder) -> int:
    """Return the bytes of everything in a store, without inspecting what it is."""
    folders = (store.chunks.folder, store.takes_folder)
    entries = [*_unfinished(store), *(entry for folder in folders for entry in _entries(folder))]
    return total(file for entry in entries for file in files_in(entry))


def _unfinished(store: StoreFolder) -> list[os.DirEntry]:
    """Return the store's own files directly in its folder; others, such as films from Save Video, are not ours."""
    return [entry for entry in _entries(store.folder) if entry.name.endswith(UNFINISHED)]


def take_inventory(store: StoreFolder) -> Inventory:
    """Read a store. TakeError if its takes cannot be listed: all chunks would appear unused."""
    found, old = Inventory(), time.time() - ABANDONED
    for entry in _unfinished(store):
        _sort_other(found, entry, old)
    for entry in _entries(store.chunks.folder):
        _sort_chunks(found, entry, old)
    for entry in _entries(store.takes_folder, must=True):
        if entry.name.endswith(REMOVED):
            found.removed[entry.path] = total(files_in(entry))
        elif store.is_id(entry.name):
            _sort_take(found, store, entry, old)
        else:
            _sort_other(found, entry, old)
    return found


def _sort_chunks(found: Inventory, entry: os.DirEntry, old: float) -> None:
    inside = len(entry.path) + 1
    for file in files_in(entry):
        if _is_leftover(file, old):
            found.leftovers.append(file)
        elif _CHUNK.fullmatch(file.name) and file.name[:2] == entry.name and len(file.path) == inside + len(file.name):
            found.chunks[file.name] = file
        else:
            found.other += file.bytes


def _sort_take(found: Inventory, store: StoreFolder, entry: os.DirEntry, old: float) -> None:
    take, files = entry.name, list(files_in(entry))
    found.leftovers += [file for file in files if _is_leftover(file, old)]
    found.folders[take] = [file for file in files if not _is_leftover(file, old)]
    found.takes[take] = manifest = _read(store, take)
    if isinstance(manifest, TakeError):
        shown = _shown(store.manifest_path(take))
        found.claim(take, {name for name in found.chunks if name.partition(".")[0] in shown})
    else:
        found.claim(take, set() if manifest is None else names_of(manifest))


def _read(store: StoreFolder, take: str) -> Manifest | TakeError | None:
    """Return a take's manifest, or what is wrong with it, or None if there is none."""
    folder = store.take_folder(take)
    try:
        store.manifest_path(take).lstat()
    except (FileNotFoundError, NotADirectoryError):
        if not folder.is_symlink():  # a link to nothing may have led to a take
            return None
    except OSError:
        pass  # it cannot be read, which is reported below
    try:
        return store.read_manifest(take)
    except TakeError as error:
        return error


def _shown(path: Path) -> set[str]:
    """Return what looks like a chunk's key in a file that is not a manifest of this version."""
    try:
        return {key.decode() for key in _NAMED.findall(nofollow.read(path, MOST_BYTES))}
    except OSError:
        return set()


def _sort_other(found: Inventory, entry: os.DirEntry, old: float) -> None:
    """Count other files in the store's folders. Nothing in a folder that is not the store's is removed."""
    for file in files_in(entry):
        if file.path == entry.path and file.name.endswith(UNFINISHED) and file.written < old:
            found.leftovers.append(file)
        else:
            found.other += file.bytes


def _is_leftover(file: FileEntry, old: float) -> bool:
    return file.name.endswith(_PARTS) and file.written < old


def files_in(entry: os.DirEntry) -> Iterator[FileEntry]:
    """Yield the file itself, or all files in the folder and its subfolders; links are not followed."""
    try:
        if entry.is_dir(follow_symlinks=False):
            for inner in _entries(entry.path):
                yield from files_in(inner)
        else:
            facts = entry.stat(follow_symlinks=False)
            yield FileEntry(entry.path, entry.name, facts.st_size, facts.st_mtime)
    except OSError:
        return  # another process removed it


def is_bare(files: list[FileEntry]) -> bool:
    """Return whether a take's folder holds only its lock."""
    return all(file.name == LOCK for file in files)


def _entries(folder: str | os.PathLike, must: bool = False) -> list[os.DirEntry]:
    """Return the entries of a folder; [] if it does not exist. must: raise TakeError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError as error:
        if must and os.path.islink(folder):
            raise TakeError(
                f"'{folder}' is a link to nothing, so it is unknown which chunks are used; is its disk connected?"
            ) from error
        return []
    except OSError as error:
        if must:
            raise TakeError(
                f"'{folder}' cannot be read ({error.strerror}), so it is unknown which chunks are used"
            ) from error
        return []
