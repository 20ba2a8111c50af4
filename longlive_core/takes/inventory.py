"""What lies in a store: chunks, takes and what belongs to nobody, read once, for all that is decided about room.

A take whose manifest cannot be read may use any chunk that no other take names. Of those that its file still names this
is known, of the others it is not.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..files import nofollow
from .chunks import LATENTS
from .disk import DAMAGED, UNFINISHED
from .errors import TakeError
from .locks import LOCK
from .manifest import Manifest
from .manifest_file import MOST_BYTES

if TYPE_CHECKING:
    from .store import TakeStore

REMOVED = ".removed"  # how the name of a take's folder ends whose take was removed
ABANDONED = 24 * 3600.0  # seconds after which a file that nobody finished, or no take names, is nobody's
SETTLED = 3600.0  # seconds after which the manifest is written, if there is to be one, that names a new chunk
VIDEO = ".mp4"
_PARTS = (UNFINISHED, ".part", DAMAGED)  # how the names of such files end
_CHUNK = re.compile(r"[0-9a-f]{16,}(?:\.safetensors|\.[0-9a-z]+\.mp4)")  # the name of a chunk's file
_NAMED = re.compile(rb'"([0-9a-f]{16,64})"')


class FileEntry(NamedTuple):
    """A file. written: seconds since 1970."""

    path: str
    name: str
    bytes: int
    written: float


@dataclass
class Inventory:
    """What lies in a store.

    Attributes:
        chunks: files of latents and units, by name.
        takes: what their folders say, by id; None where there is no manifest.
        folders: the files in those folders, manifests and films.
        claims: the names of the files that each take uses; of one that cannot be read those that its file still shows.
        users: how many takes use a file.
        leftovers: old files that nobody finishes any more, wherever they lie.
        removed: folders of takes that were removed, with their bytes.
        other: bytes of all else.
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
        return [take for take, said in self.takes.items() if isinstance(said, TakeError)]

    def orphans(self, seconds: float = 0.0) -> set[str]:
        """Names of the chunks' files that no take uses, as far as one can read, and that are older than so much."""
        old = time.time() - seconds
        return {name for name, file in self.chunks.items() if not self.users[name] and file.written < old}

    def own(self, take: str) -> int:
        """Bytes in a take's folder."""
        return total(self.folders.get(take, ()))

    def used_by(self, names: Iterable[str]) -> int:
        """Bytes of the chunks' files of these names."""
        return total(self.chunks[name] for name in names if name in self.chunks)

    def claim(self, take: str, names: set[str]) -> None:
        """The take uses these files, of those that are there."""
        self.users.subtract(self.claims.get(take, ()))
        self.claims[take] = names & self.chunks.keys()
        self.users.update(self.claims[take])

    def measure(self, take: str, folder: Path) -> None:
        """Look again at what lies in a take's folder."""
        self.folders[take] = [file for entry in _entries(folder) for file in files_in(entry)]

    def measure_removed(self, folder: str) -> None:
        """Look again at what is left of a take that was removed."""
        self.removed.pop(folder, None)
        if os.path.lexists(folder):
            own = 0 if os.path.isdir(folder) else os.lstat(folder).st_size
            self.removed[folder] = own + total(file for entry in _entries(folder) for file in files_in(entry))

    def forget(self, take: str, rest: Path) -> set[str]:
        """A take was removed; returns what it used. rest: where that lies which could not be removed."""
        folder = os.path.join(os.path.dirname(rest), take) + os.sep
        self.leftovers = [file for file in self.leftovers if not file.path.startswith(folder)]
        del self.folders[take], self.takes[take]
        self.measure_removed(os.fspath(rest))
        names = self.claims.pop(take)
        self.users.subtract(names)
        return names


def names_of(take: Manifest) -> set[str]:
    """What the files of a take's chunks are called."""
    return {name for key in take.keys for name in (f"{key}{LATENTS}", f"{key}.{take.unit}{VIDEO}")}


def total(files: Iterable[FileEntry]) -> int:
    """Bytes of these files."""
    return sum(file.bytes for file in files)


def measure(store: TakeStore) -> int:
    """Bytes of everything in a store, without a look at what it is."""
    places = (store.chunks.folder, store.takes_folder)
    entries = [*_unfinished(store), *(entry for place in places for entry in _entries(place))]
    return total(file for entry in entries for file in files_in(entry))


def _unfinished(store: TakeStore) -> list[os.DirEntry]:
    """The store's own in its folder. All else there is somebody else's, such as films that Save Video put there."""
    return [entry for entry in _entries(store.folder) if entry.name.endswith(UNFINISHED)]


def take_inventory(store: TakeStore) -> Inventory:
    """TakeError where one cannot tell which takes there are: chunks would seem to be nobody's."""
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


def _sort_take(found: Inventory, store: TakeStore, entry: os.DirEntry, old: float) -> None:
    take, files = entry.name, list(files_in(entry))
    found.leftovers += [file for file in files if _is_leftover(file, old)]
    found.folders[take] = [file for file in files if not _is_leftover(file, old)]
    found.takes[take] = said = _read(store, take)
    if isinstance(said, TakeError):
        shown = _shown(store.manifest_path(take))
        found.claim(take, {name for name in found.chunks if name.partition(".")[0] in shown})
    else:
        found.claim(take, set() if said is None else names_of(said))


def _read(store: TakeStore, take: str) -> Manifest | TakeError | None:
    """A take's manifest, what is wrong with it, or None where there is none."""
    folder = store.take_folder(take)
    try:
        store.manifest_path(take).lstat()
    except (FileNotFoundError, NotADirectoryError):
        if not folder.is_symlink():  # one that leads nowhere now may have led to a take
            return None
    except OSError:
        pass  # it cannot be read, which is told below
    try:
        return store.read_manifest(take)
    except TakeError as error:
        return error


def _shown(path: Path) -> set[str]:
    """What looks like a chunk's key in a file that is no manifest, or none of this version."""
    try:
        return {key.decode() for key in _NAMED.findall(nofollow.read(path, MOST_BYTES))}
    except OSError:
        return set()


def _sort_other(found: Inventory, entry: os.DirEntry, old: float) -> None:
    """What lies in the store's own folders; of folders that are not the store's nothing goes."""
    for file in files_in(entry):
        if file.path == entry.path and file.name.endswith(UNFINISHED) and file.written < old:
            found.leftovers.append(file)
        else:
            found.other += file.bytes


def _is_leftover(file: FileEntry, old: float) -> bool:
    return file.name.endswith(_PARTS) and file.written < old


def files_in(entry: os.DirEntry) -> Iterator[FileEntry]:
    """The file, or those in the folder, and in folders in it; links are not followed."""
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
    """Whether a take's folder holds nothing but its lock."""
    return all(file.name == LOCK for file in files)


def _entries(folder: str | os.PathLike, must: bool = False) -> list[os.DirEntry]:
    """What lies in a folder; nothing where there is none. must: TakeError where it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError as error:
        if must and os.path.islink(folder):
            raise TakeError(
                f"'{folder}' leads nowhere, so nobody can tell which chunks are used; is its disk there?"
            ) from error
        return []
    except OSError as error:
        if must:
            raise TakeError(
                f"'{folder}' cannot be read ({error.strerror}), so nobody can tell which chunks are used"
            ) from error
        return []
