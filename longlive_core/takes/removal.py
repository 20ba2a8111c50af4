"""Removal: takes, the chunks that only they used, and files that crashes and players left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..files import in_use
from .disk import age, sync
from .errors import TakeError
from .folder import REMOVED, StoreFolder
from .inventory import ABANDONED, RECENT, Inventory, is_bare, take_inventory, total
from .locks import NO_SPACE
from .manifest import FILM, GROWING, MANIFEST, Manifest

log = logging.getLogger(__name__)


def remove(store: StoreFolder, take: str) -> int:
    """Remove a take and what no other take uses; return the bytes freed."""
    with _locked_to_remove(store, take):
        found = take_inventory(store)
        if take not in found.takes:
            raise TakeError(f"there is no take {take} in '{store.folder}'; see `takes list`")
        freed = drop(store, found, take)
        return freed + clean(store, found)


def forget(store: StoreFolder, take: str) -> None:
    """Remove a take all of whose chunks another one uses."""
    with store.locked():
        _check_free(store, take)
        _remove_folder(store.take_folder(take))


@contextlib.contextmanager
def _locked_to_remove(store: StoreFolder, take: str) -> Iterator[None]:
    locked = _lock_to_remove(store, take)
    try:
        yield
    finally:
        if locked:
            store.lock.release()


def _lock_to_remove(store: StoreFolder, take: str) -> bool:
    """Acquire the store's lock. Return False if the disk is too full for its file even without the take's films.

    If the file does not exist, no process holds the lock, and on a full disk no other process can acquire it.
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
    log.warning("take %s is removed without a lock, for which the disk has no space: start no render meanwhile", take)
    return False


def _check_free(store: StoreFolder, take: str) -> None:
    if store.is_being_rendered(take):
        raise TakeError(f"take {take} is being rendered by another process; wait for it")


def drop(store: StoreFolder, found: Inventory, take: str) -> int:
    """Remove a take and what only it used; return the bytes freed. TakeError while it is rendered or played."""
    _check_free(store, take)
    own, manifest = found.own(take), found.takes[take]
    rest = _remove_folder(store.take_folder(take))  # the manifest first: a crash then leaves chunks that no take names
    names = found.forget(take, rest)
    if isinstance(manifest, TakeError):  # chunks that no other take names may have been its own
        names = set() if found.unreadable else found.orphans(RECENT)
    freed = unlink_chunks(found, {name for name in names if not found.users[name]})
    return freed + own - found.removed.get(str(rest), 0)


def _remove_folder(folder: Path) -> Path:
    """Remove a take's folder, whole or not at all if the disk permits. Return the path of what could not be removed.

    TakeError while a file in it is open (Windows), or if nothing can be removed.
    """
    gone = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}{REMOVED}")
    try:
        os.rename(folder, gone)
    except PermissionError as error:
        raise TakeError(
            f"take {folder.name} cannot be removed ({error.strerror}): close what shows its film, or ask its owner"
        ) from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise TakeError(f"take {folder.name} cannot be removed ({error.strerror})") from error
        gone = folder  # no space even for another name
        _unlink(folder, MANIFEST)
    with contextlib.suppress(TakeError):  # a full disk may refuse
        sync(folder if gone == folder else folder.parent)  # before its chunks: else a crash restores it
    _delete(gone)
    return gone


def _delete(path: str | os.PathLike) -> None:
    """Delete a folder, or the file or link in its place, as far as possible."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        _is_unlinked(os.fspath(path))


def _unlink(folder: Path, name: str) -> None:
    try:
        (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise TakeError(f"take {folder.name} cannot be removed ({error.strerror})") from error


def unlink_chunks(found: Inventory, names: Iterable[str]) -> int:
    """Delete chunk files; return the bytes freed."""
    gone = [found.chunks.pop(name) for name in names if _is_unlinked(found.chunks[name].path)]
    return total(gone)


def _is_unlinked(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:  # another program has it open, or the disk is read-only
        return False
    return True


# --- cleaning


def sweep(store: StoreFolder) -> int:
    """Remove what no take uses any more; return the bytes freed."""
    with store.locked():
        return clean(store, take_inventory(store))


def clean(store: StoreFolder, found: Inventory) -> int:
    """Remove old unfinished files, and old chunks that no take names. The caller holds the store's lock.

    A render writes its start chunks under that lock, together with the manifest that names them. While any take cannot
    be read, all chunks that may be its own are kept.
    """
    before, old = found.size, time.time() - ABANDONED
    found.leftovers = [file for file in found.leftovers if not _is_unlinked(file.path)]
    for folder in list(found.removed):
        _delete(folder)
        found.measure_removed(folder)
    if not found.unreadable:
        unlink_chunks(found, found.orphans(ABANDONED))
    for take in list(found.takes):
        _clean_take(store, found, take, old)
    return before - found.size


def _clean_take(store: StoreFolder, found: Inventory, take: str, old: float) -> None:
    folder, manifest, files = store.take_folder(take), found.takes[take], found.folders[take]
    if manifest is None and is_bare(files) and -age(folder) < old and not store.is_being_rendered(take):
        with contextlib.suppress(TakeError):
            found.forget(take, _remove_folder(folder))
    elif any(file.name.endswith(".mp4") and file.name != FILM for file in files):
        with contextlib.suppress(TakeError), store.rendering(take):
            tidy(store, take)
            if isinstance(manifest, Manifest):
                _remove_grown(folder, old)
        found.measure(take, folder)


def _remove_grown(folder: Path, old: float) -> None:
    """Remove growing films that a crash left: their chunks are stored."""
    for film in (folder / GROWING, *in_use.spares_of(folder / GROWING)):
        if film.is_file() and -age(film) < old:
            in_use.remove(film)


def tidy(store: StoreFolder, take: str) -> None:
    """Remove the files of a take that players held open when earlier renders ended. The caller renders the take."""
    folder = store.take_folder(take)
    film = folder / FILM
    for spare in sorted(in_use.spares_of(film), key=age):  # the newest first
        if not film.is_file() or age(spare) < age(film):
            with contextlib.suppress(PermissionError):
                os.replace(spare, film)
        else:
            in_use.remove(spare)
    for growing in (folder / GROWING, *in_use.spares_of(folder / GROWING)):
        if growing.is_file() and film.is_file() and age(film) <= age(growing):  # otherwise it shows more than the film
            in_use.remove(growing)
