"""Verify a store: which of its chunks are what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .checksums import UnitInfo
from .chunks import Chunks
from .errors import ChunkDamaged, ChunkMissing, TakeError
from .manifest import Manifest
from .store import TakeStore


@dataclass(frozen=True)
class StoredFile:
    """A chunk's file: its latents, or its unit of video.

    Attributes:
        facts: what is known of the chunk. shape: (T, h, w) of its latents. video: whether this is the unit.
        users: (take, number of the chunk in it) for each use.
    """

    facts: UnitInfo
    shape: tuple[int, int, int]
    video: bool
    users: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class VerifyReport:
    """The result of `verify`.

    Attributes:
        takes, files: how many were checked.
        damaged: files that are not what was written, with the reason.
        unreadable: takes whose manifests cannot be read.
        without_checksum: files of earlier versions that had no checksum.
        missing: chunks that are not stored, by take id: films that were not finished, or chunks removed since.
    """

    takes: int = 0
    files: int = 0
    damaged: list[tuple[StoredFile, ChunkDamaged]] = field(default_factory=list)
    unreadable: list[TakeError] = field(default_factory=list)
    without_checksum: int = 0
    missing: dict[str, set[int]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return not self.damaged and not self.unreadable


def verify(
    store: TakeStore,
    take: str | None = None,
    repair: bool = False,
    progress: Callable[[Sequence[StoredFile]], Iterable[StoredFile]] = iter,
) -> VerifyReport:
    """Read every chunk of a store, or of one take, and compare it with its checksum.

    repair: set damaged files aside, so that the next render renders them again, and add checksums to files of earlier
    versions; otherwise nothing is written. progress: wraps the iteration over the files. TakeError if there is no such
    take, or files cannot be read at all.
    """
    takes = list(store.takes()) if take is None else [store.read_manifest(take)]
    found = VerifyReport(unreadable=[each for each in takes if isinstance(each, TakeError)])
    readable = [each for each in takes if isinstance(each, Manifest)]
    found.takes, chunks = len(readable), Chunks(store.chunks.folder, repair=repair)
    for file in progress(files_of(readable)):
        _check(chunks, file, repair, found)
    return found


def files_of(takes: Sequence[Manifest]) -> list[StoredFile]:
    """Return the files that takes use, each once."""
    known: dict[tuple[str, str | None], StoredFile] = {}
    for take in takes:
        for chunk, facts in enumerate(take.units()):
            for video in (False, True):
                file = StoredFile(facts, take.latent_shape, video)
                known.setdefault((facts.key, facts.unit if video else None), file).users.append((take.id, chunk))
    return list(known.values())


def _check(chunks: Chunks, file: StoredFile, repair: bool, found: VerifyReport) -> None:
    facts = file.facts
    try:
        _, has_checksum = chunks.checked_unit(facts) if file.video else chunks.checked_latents(facts.key, file.shape)
        if repair and not has_checksum:
            chunks.load_unit(facts) if file.video else chunks.load_latents(facts.key, file.shape)
    except ChunkMissing:
        for take, chunk in file.users:
            found.missing.setdefault(take, set()).add(chunk)
        return
    except ChunkDamaged as damage:
        found.damaged.append((file, damage))
        has_checksum = True
    found.files += 1
    found.without_checksum += not has_checksum
