"""Eviction: which takes leave a store so that a film fits within its limit."""

from __future__ import annotations

import logging
from collections import Counter

from .errors import TakeError
from .folder import StoreFolder
from .inventory import RECENT, Inventory, names_of, take_inventory
from .manifest import Manifest
from .removal import clean, drop, unlink_chunks

log = logging.getLogger(__name__)


def make_room(store: StoreFolder, needed: int, keep: str | Manifest) -> tuple[list[str], int]:
    """See `TakeStore.make_room`. Return the ids of the removed takes and the store's size in bytes."""
    film = keep.id if isinstance(keep, Manifest) else keep
    with store.locked():
        found = take_inventory(store)
        if isinstance(keep, Manifest):  # another process may have removed its file
            found.claim(film, names_of(keep))
        clean(store, found)
        removed = []
        if store.limit is not None and found.size + needed > store.limit:
            if not found.unreadable:
                unlink_chunks(found, found.orphans(RECENT))
            removed = _evict(store, found, found.size + needed - store.limit, film)
        return removed, found.size


def _evict(store: StoreFolder, found: Inventory, excess: int, film: str) -> list[str]:
    """Remove as few takes as free `excess` bytes; none if all of them would not suffice."""
    removed, stay = [], {film, *(take for take in found.takes if store.is_being_rendered(take))}
    while excess > 0:
        chosen = _Choice(found).fewest(_by_use(found, stay), excess)
        if not chosen:
            break
        for take in chosen:
            try:
                excess -= drop(store, found, take)
                removed.append(take)
            except TakeError as error:  # another process has begun to render it, or a player shows it: choose again
                log.info("%s", error)
                stay.add(take)
                break
    return removed


def _by_use(found: Inventory, stay: set[str]) -> list[str]:
    """Return the takes that may be removed, the one unused for longest first; takes dated ahead before all others."""
    used = {
        take: manifest.recency
        for take, manifest in found.takes.items()
        if isinstance(manifest, Manifest) and take not in stay
    }
    return sorted(used, key=lambda take: (used[take], take))


class _Choice:
    """Chooses takes to remove: what one take frees depends on the others removed with it."""

    def __init__(self, found: Inventory):
        self._found, self._users = found, Counter(found.users)

    def fewest(self, order: list[str], excess: int) -> list[str]:
        """Return the first takes of `order` that free `excess` bytes, without superfluous ones; [] if all do not."""
        chosen, freed = [], 0
        for take in order:
            if freed >= excess:
                break
            freed += self._remove(take)
            chosen.append(take)
        if freed < excess:
            return []
        for take in chosen[::-1]:  # prefer to keep what was used last
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
        """Return the bytes that removing a take frees, once it no longer counts as a user."""
        return self._found.own(take) + self._found.used_by(name for name in names if not self._users[name])
