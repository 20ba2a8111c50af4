"""What fills a store, from the point of view of one film: what a limit may remove, and what it may not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..words.quantities import gigabytes
from .folder import StoreFolder
from .inventory import RECENT, Inventory, names_of, take_inventory
from .manifest import Manifest


@dataclass(frozen=True)
class StoreUsage:
    """What fills a store, in bytes.

    Attributes:
        film: the film's own files and chunks.
        rendered: takes that are being rendered, without what they share with the film, and new chunks that no take
            names yet.
        unreadable: takes that cannot be read, and chunks that no other take names: they may belong to these.
        other: files that are not the store's, and takes without a manifest.
        removable: everything else.
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
        """Bytes that no limit removes."""
        return self.film + self.rendered + self.unreadable + self.other


def store_usage(store: StoreFolder, film: Manifest, began: str | None = None) -> StoreUsage:
    """Measure a store. Writes nothing.

    film: a take that is, or will be, in the store. began: id of the take that its render began with.
    """
    found, names, own = take_inventory(store), names_of(film), {film.id, began}
    rendered = [take for take in found.takes if take not in own and store.is_being_rendered(take)]
    unreadable = [take for take in found.unreadable if take not in (*own, *rendered)]
    others = [take for take, manifest in found.takes.items() if manifest is None and take not in (*own, *rendered)]
    orphans, new = found.orphans(), found.orphans() - found.orphans(RECENT)
    kinds = (names, _claimed(found, rendered).union(() if found.unreadable else new) - names)
    unclear = _claimed(found, unreadable).union(orphans if found.unreadable else ())
    parts = StoreUsage(
        found.used_by(kinds[0]) + sum(map(found.own, own)),
        found.used_by(kinds[1]) + sum(map(found.own, rendered)),
        found.used_by(unclear.difference(*kinds)) + sum(map(found.own, unreadable)),
        found.other + sum(map(found.own, others)),
    )
    return StoreUsage(parts.film, parts.rendered, parts.unreadable, parts.other, found.size - parts.stays)


def _claimed(found: Inventory, takes: Iterable[str]) -> set[str]:
    return set().union(*(found.claims[take] for take in takes))


def removed_line(take: str, limit: int) -> str:
    """Report that a take was removed to keep to a limit in bytes."""
    return f"removed take {take}, unused for longest: the limit is {gigabytes(limit)}"


def in_the_way(rendered: int, unreadable: int, other: int) -> str:
    """Describe what a limit cannot remove, in bytes (see `StoreUsage`)."""
    kinds = {
        "takes that are being rendered": rendered,
        "takes that cannot be read, and chunks that may be theirs": unreadable,
        "other files in the folder": other,
    }
    return " and ".join(f"{gigabytes(size)} of {kind}" for kind, size in kinds.items() if size)
