"""What leaves a store, and what must not: removed takes, what only they used, leftovers; the limit of its size."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import in_use
from ..words.quantities import gigabytes
from .disk import age, settle
from .errors import TakeError
from .inventory import ABANDONED, REMOVED, SETTLED, Inventory, is_bare, names_of, take_inventory, total
from .locks import NO_SPACE
from .manifest import MANIFEST, Manifest

if TYPE_CHECKING:
    from .store import TakeStore

log = logging.getLogger(__name__)

FILM, GROWING = "film.mp4", "growing.mp4"


@dataclass(frozen=True)
class StoreUsage:
    """What fills a store, in bytes, as one film in it sees that.

    Attributes:
        film: its own files and chunks.
        rendered: takes that are being rendered, without what they share with it, and new chunks that no take names yet.
        unreadable: takes that cannot be read, and chunks that no other take names: they may be theirs.
        other: files that are not the store's, and takes without a manifest.
        removable: all else.
    """

    film: int = 0
    rendered: int = 0
    unreadable: int = 0
    other: int = 0
    removable: int = 0

    @property
    def size(self) -> int:
        return self.stays + self.removable

    @property
    def stays(self) -> int:
        """What no limit removes."""
        return self.film + self.rendered + self.unreadable + self.other


def store_usage(store: TakeStore, film: Manifest, began: str | None = None) -> StoreUsage:
    """film: a take that is in the store, or will be. began: the take that its render began with. Writes nothing."""
    found, names, own = take_inventory(store), names_of(film), {film.id, began}
    rendered = [take for take in found.takes if take not in own and store.is_being_rendered(take)]
    unreadable = [take for take in found.unreadable if take not in (*own, *rendered)]
    others = [take for take, said in found.takes.items() if said is None and take not in (*own, *rendered)]
    orphans, new = found.orphans(), found.orphans() - found.orphans(SETTLED)
    kinds = (names, _claimed(found, rendered).union(() if found.unreadable else new) - names)
    vague = _claimed(found, unreadable).union(orphans if found.unreadable else ())
    parts = StoreUsage(
        found.used_by(kinds[0]) + sum(map(found.own, own)),
        found.used_by(kinds[1]) + sum(map(found.own, rendered)),
        found.used_by(vague.difference(*kinds)) + sum(map(found.own, unreadable)),
        found.other + sum(map(found.own, others)),
    )
    return StoreUsage(parts.film, parts.rendered, parts.unreadable, parts.other, found.size - parts.stays)


def _claimed(found: Inventory, takes: Iterable[str]) -> set[str]:
    return set().union(*(found.claims[take] for take in takes))


# --- making room


def make_room(store: TakeStore, needed: int, keep: str | Manifest) -> tuple[list[str], int]:
    """See `TakeStore.make_room`. -> the takes that went, the bytes that are left."""
    film = keep.id if isinstance(keep, Manifest) else keep
    with store.locked():
        found = take_inventory(store)
        if isinstance(keep, Manifest):  # whose file somebody may have removed meanwhile
            found.claim(film, names_of(keep))
        clean(store, found)
        gone = []
        if store.limit is not None and found.size + needed > store.limit:
            if not found.unreadable:
                _unlink_chunks(found, found.orphans(SETTLED))
            gone = _evict(store, found, found.size + needed - store.limit, film)
        return gone, found.size


def _evict(store: TakeStore, found: Inventory, excess: int, film: str) -> list[str]:
    """Remove takes until `excess` bytes are gone, and no more of them than that needs; none where all are too few."""
    gone, stay = [], {film, *(take for take in found.takes if store.is_being_rendered(take))}
    while excess > 0:
        chosen = _Choice(found).fewest(_by_use(found, stay), excess)
        if not chosen:
            break
        for take in chosen:
            try:
                excess -= _drop(store, found, take)
                gone.append(take)
            except TakeError as error:  # somebody has begun to render it, or a player shows it: choose again
                log.info("%s", error)
                stay.add(take)
                break
    return gone


def _by_use(found: Inventory, stay: set[str]) -> list[str]:
    """The takes that may go, the one unused for longest first. One that is dated ahead comes before them all."""
    used = {take: said.recency for take, said in found.takes.items() if isinstance(said, Manifest) and take not in stay}
    return sorted(used, key=lambda take: (used[take], take))


class _Choice:
    """Which takes to remove: what each of them frees depends on those that go with it."""

    def __init__(self, found: Inventory):
        self._found, self._users = found, Counter(found.users)

    def fewest(self, order: list[str], excess: int) -> list[str]:
        """The first of `order` that free so many bytes, without those that need not go; empty where all are too few."""
        chosen, freed = [], 0
        for take in order:
            if freed >= excess:
                break
            freed += self._remove(take)
            chosen.append(take)
        if freed < excess:
            return []
        for take in chosen[::-1]:  # what was used later stays rather
            back = self._put_back(take)
            if freed - back >= excess:
                freed -= back
                chosen.remove(take)
            else:
                self._remove(take)
        return chosen

    def _remove(self, take: str) -> int:
        names = self._found.claims[take]
        self._users.subtract(names)
        return self._alone(take, names)

    def _put_back(self, take: str) -> int:
        names = self._found.claims[take]
        alone = self._alone(take, names)
        self._users.update(names)
        return alone

    def _alone(self, take: str, names: set[str]) -> int:
        """What goes with a take, once it is no user any more."""
        return self._found.own(take) + self._found.used_by(name for name in names if not self._users[name])


# --- removing


def remove(store: TakeStore, take: str) -> int:
    """Remove a take and what no other take uses; returns the bytes freed."""
    with _locked_to_remove(store, take):
        found = take_inventory(store)
        if take not in found.takes:
            raise TakeError(f"there is no take {take} in '{store.folder}'; see `takes list`")
        freed = _drop(store, found, take)
        return freed + clean(store, found)


def forget(store: TakeStore, take: str) -> None:
    """Remove a take all whose chunks another one uses."""
    with store.locked():
        _check_free(store, take)
        _remove_folder(store.take_folder(take))


@contextlib.contextmanager
def _locked_to_remove(store: TakeStore, take: str) -> Iterator[None]:
    locked = _lock_to_remove(store, take)
    try:
        yield
    finally:
        if locked:
            store.lock.release()


def _lock_to_remove(store: TakeStore, take: str) -> bool:
    """Acquire the store's lock; False where a full disk has no place for its file, though films of the take went.

    Where there is no such file nobody holds the lock, and on a full disk nobody else can.
    """
    for last in (False, True):
        try:
            store.acquire()
            return True
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise TakeError(
                    f"take {take} cannot be removed: '{store.folder}' cannot be written ({error.strerror})"
                ) from error
            _check_free(store, take)
            with contextlib.suppress(OSError):
                for film in () if last else store.take_folder(take).glob("*.mp4"):
                    in_use.remove(film)
    log.warning("take %s is removed without a lock, for which the disk has no room: begin no render meanwhile", take)
    return False


def _check_free(store: TakeStore, take: str) -> None:
    if store.is_being_rendered(take):
        raise TakeError(f"take {take} is being rendered by another process; wait for it")


def _drop(store: TakeStore, found: Inventory, take: str) -> int:
    """Remove a take and what only it used; returns the bytes freed. TakeError while it is rendered or played."""
    _check_free(store, take)
    own, said = found.own(take), found.takes[take]
    rest = _remove_folder(store.take_folder(take))  # first the manifest: a crash then leaves chunks that nobody names
    names = found.forget(take, rest)
    if isinstance(said, TakeError):  # what no other names may have been its
        names = set() if found.unreadable else found.orphans(SETTLED)
    freed = _unlink_chunks(found, {name for name in names if not found.users[name]})
    return freed + own - found.removed.get(str(rest), 0)


def _remove_folder(folder: Path) -> Path:
    """Whole or not at all, where the disk permits. Returns where that lies which could not be removed, if there is any.

    TakeError while a file in it is open (Windows), or where nothing can be removed.
    """
    gone = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{REMOVED}")
    try:
        os.rename(folder, gone)
    except PermissionError as error:
        raise TakeError(
            f"take {folder.name} cannot be removed ({error.strerror}): close what shows its film, or ask whose it is"
        ) from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise TakeError(f"take {folder.name} cannot be removed ({error.strerror})") from error
        gone = folder  # not even room for another name
        _unlink(folder, MANIFEST)
    with contextlib.suppress(TakeError):  # a full disk may not
        settle(folder if gone == folder else folder.parent)  # before its chunks go: it would be back without them
    _delete(gone)
    return gone


def _delete(path: str | os.PathLike) -> None:
    """A folder, or whatever lies in its place; nothing where that cannot be."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        _is_unlinked(os.fspath(path))


def _unlink(folder: Path, name: str) -> None:
    try:
        (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise TakeError(f"take {folder.name} cannot be removed ({error.strerror})") from error


def _unlink_chunks(found: Inventory, names: Iterable[str]) -> int:
    """-> the bytes freed."""
    gone = [found.chunks.pop(name) for name in names if _is_unlinked(found.chunks[name].path)]
    return total(gone)


def _is_unlinked(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:  # another program holds it, or the disk is read-only
        return False
    return True


# --- cleaning


def sweep(store: TakeStore) -> int:
    """Remove what belongs to nobody any more; returns the bytes freed."""
    with store.locked():
        return clean(store, take_inventory(store))


def clean(store: TakeStore, found: Inventory) -> int:
    """Remove old files that nobody finishes, and old chunks that no take names; the store's lock is held.

    What a render begins with it writes under that lock, together with the manifest that names it. Takes that cannot be
    read keep what may be theirs.
    """
    before, old = found.size, time.time() - ABANDONED
    found.leftovers = [file for file in found.leftovers if not _is_unlinked(file.path)]
    for folder in list(found.removed):
        _delete(folder)
        found.measure_removed(folder)
    if not found.unreadable:
        _unlink_chunks(found, found.orphans(ABANDONED))
    for take in list(found.takes):
        _clean_take(store, found, take, old)
    return before - found.size


def _clean_take(store: TakeStore, found: Inventory, take: str, old: float) -> None:
    folder, said, files = store.take_folder(take), found.takes[take], found.folders[take]
    if said is None and is_bare(files) and -age(folder) < old and not store.is_being_rendered(take):
        with contextlib.suppress(TakeError):
            found.forget(take, _remove_folder(folder))
    elif any(file.name.endswith(".mp4") and file.name != FILM for file in files):
        with contextlib.suppress(TakeError), store.rendering(take):
            tidy(store, take)
            if isinstance(said, Manifest):
                _remove_grown(folder, old)
        found.measure(take, folder)


def _remove_grown(folder: Path, old: float) -> None:
    """Growing films that a crash left: their chunks are there."""
    for film in (folder / GROWING, *in_use.spares_of(folder / GROWING)):
        if film.is_file() and -age(film) < old:
            in_use.remove(film)


def tidy(store: TakeStore, take: str) -> None:
    """Remove what players held when renders of a take ended. To be called while nobody else renders it."""
    folder = store.take_folder(take)
    film = folder / FILM
    for spare in sorted(in_use.spares_of(film), key=age):  # the newest first
        if not film.is_file() or age(spare) < age(film):
            with contextlib.suppress(PermissionError):
                os.replace(spare, film)
        else:
            in_use.remove(spare)
    for growing in (folder / GROWING, *in_use.spares_of(folder / GROWING)):
        if growing.is_file() and film.is_file() and age(film) <= age(growing):  # else it shows more
            in_use.remove(growing)


def removed_line(take: str, limit: int) -> str:
    """A take went, to keep to a limit of so many bytes."""
    return f"removed take {take}, unused for longest: the limit is {gigabytes(limit)}"


def in_the_way(rendered: int, unreadable: int, other: int) -> str:
    """What a limit cannot remove, in bytes: takes that are rendered, what cannot be read, what is not the store's."""
    kinds = {
        "takes that are being rendered": rendered,
        "takes that cannot be read, and chunks that may be theirs": unreadable,
        "other files in the folder": other,
    }
    return " and ".join(f"{gigabytes(size)} of {kind}" for kind, size in kinds.items() if size)
