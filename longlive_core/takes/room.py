"""What a store takes on the disk, and what leaves it: removed takes, chunks that no take uses, leftovers."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from typing import TYPE_CHECKING

from .. import held
from .disk import UNFINISHED, age, bytes_of, settle
from .errors import TakeError
from .manifest import Manifest

if TYPE_CHECKING:
    from .store import TakeStore

FILM, GROWING = "film.mp4", "growing.mp4"
REMOVED = ".removed"  # how the name of a take's folder ends whose take was removed
ABANDONED = 24 * 3600.0  # seconds after which an unfinished file is nobody's


def size(store: TakeStore) -> int:
    """Bytes of everything in a store."""
    return bytes_of(store.folder.rglob("*"))


def size_of(store: TakeStore, take: Manifest) -> int:
    """Bytes of a take: its own files, and its chunks, whoever else uses them."""
    keys = set(take.keys)
    chunks = (path for path in store.chunks.files() if path.name.split(".")[0] in keys)
    return bytes_of((*chunks, *store.take_folder(take.id).glob("*")))


def remove(store: TakeStore, take: str) -> int:
    """Remove a take and the chunks that no other take uses; returns the bytes freed."""
    with store.locked():
        before = size(store)
        _drop(store, take)
        return before - size(store)


def forget(store: TakeStore, take: str) -> None:
    """Remove a take all of whose chunks another one has; none of them is looked at."""
    with store.locked():
        _drop_folder(store, take)


def make_room(store: TakeStore, needed: int, keep: str) -> list[str]:
    """Remove the takes unused for longest until `needed` more bytes fit; never `keep`. Returns what went."""
    gone = []
    if store.limit is None:
        return gone
    with store.locked():
        others = [take for take in store.takes() if isinstance(take, Manifest) and take.id != keep]
        others.sort(key=lambda take: take.used)
        while others and size(store) + needed > store.limit:
            oldest = others.pop(0).id
            with contextlib.suppress(TakeError):  # somebody renders it
                _drop(store, oldest)
                gone.append(oldest)
    return gone


def _drop(store: TakeStore, take: str) -> None:
    """Remove a take and what only it used; the store's lock is held. TakeError while it is rendered or played."""
    _drop_folder(store, take)
    sweep(store)


def _drop_folder(store: TakeStore, take: str) -> None:
    with store.rendering(take):
        pass  # nobody does; on Windows its folder could not go while the lock is open
    folder = store.take_folder(take)
    gone = folder.with_name(f"{take}.{uuid.uuid4().hex[:8]}{REMOVED}")
    try:
        os.rename(folder, gone)  # whole or not at all: on Windows not while a file in it is open
    except PermissionError as error:
        raise TakeError(f"take {take} cannot be removed ({error.strerror}): close what shows its film") from error
    settle(folder.parent)  # before its chunks go: after a loss of power it would be back without them
    shutil.rmtree(gone, ignore_errors=True)


def tidy(store: TakeStore, take: str) -> None:
    """Remove what players held when renders of a take ended. To be called while nobody else renders it."""
    folder = store.take_folder(take)
    film = folder / FILM
    for spare in sorted(held.spares_of(film), key=age):  # the newest first
        if not film.is_file() or age(spare) < age(film):
            with contextlib.suppress(PermissionError):
                os.replace(spare, film)
        else:
            held.remove(spare)
    for growing in (folder / GROWING, *held.spares_of(folder / GROWING)):
        if growing.is_file() and film.is_file() and age(film) <= age(growing):  # else it shows more
            held.remove(growing)


def sweep(store: TakeStore) -> None:
    """Remove chunks that no manifest names. A manifest that cannot be read may name any, so then none goes."""
    _tidy_all(store)
    used: set[str] = set()
    for take in store.takes():
        if isinstance(take, TakeError):
            return
        used.update(take.keys)
    for path in store.chunks.files():
        with contextlib.suppress(OSError):
            stale = path.suffix == UNFINISHED and time.time() - path.stat().st_mtime > ABANDONED
            if stale or (path.suffix != UNFINISHED and path.name.split(".")[0] not in used):
                path.unlink()


def _tidy_all(store: TakeStore) -> None:
    for folder in store.take_folders():
        if folder.name.endswith(REMOVED):
            shutil.rmtree(folder, ignore_errors=True)
        elif store.is_id(folder.name):
            with contextlib.suppress(TakeError), store.rendering(folder.name):
                tidy(store, folder.name)
