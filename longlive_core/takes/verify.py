"""Looking through a whole store: which of its chunks are what was written."""

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
        facts: what is known of it. shape: (T, h, w) of its latents. video: whether it is the unit.
        users: the takes that use it, and its number in each.
    """

    facts: UnitInfo
    shape: tuple[int, int, int]
    video: bool
    users: list[tuple[str, int]] = field(default_factory=list)


@dataclass
class VerifyReport:
    """What was found.

    Attributes:
        takes, files: how many were looked at.
        damaged: files that are not what was written, and what is wrong with each.
        unreadable: takes whose manifests cannot be read.
        unproved: files of earlier versions that had no checksum.
        missing: chunks that are not there, by their takes' ids: of films that were not finished, or removed since.
    """

    takes: int = 0
    files: int = 0
    damaged: list[tuple[StoredFile, ChunkDamaged]] = field(default_factory=list)
    unreadable: list[TakeError] = field(default_factory=list)
    unproved: int = 0
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
    """Read every chunk of a store, or of one take, and compare it with what it says of itself.

    repair: set aside what is damaged, so that the next render makes it again, and give files of earlier versions their
    checksums; otherwise nothing is written. progress: is given the files, and passes them on one by one. TakeError
    where there is no such take, or files cannot be read at all.
    """
    takes = list(store.takes()) if take is None else [store.read_manifest(take)]
    found = VerifyReport(unreadable=[each for each in takes if isinstance(each, TakeError)])
    readable = [each for each in takes if isinstance(each, Manifest)]
    found.takes, chunks = len(readable), Chunks(store.chunks.folder, mends=repair)
    for file in progress(files_of(readable)):
        _look(chunks, file, repair, found)
    return found


def files_of(takes: Sequence[Manifest]) -> list[StoredFile]:
    """The files that takes use, each once."""
    known: dict[tuple[str, str | None], StoredFile] = {}
    for take in takes:
        for chunk, facts in enumerate(take.units()):
            for video in (False, True):
                file = StoredFile(facts, take.latent_shape, video)
                known.setdefault((facts.key, facts.unit if video else None), file).users.append((take.id, chunk))
    return list(known.values())


def _look(chunks: Chunks, file: StoredFile, repair: bool, found: VerifyReport) -> None:
    facts = file.facts
    try:
        _, proved = chunks.checked_unit(facts) if file.video else chunks.checked_latents(facts.key, file.shape)
        if repair and not proved:
            chunks.load_unit(facts) if file.video else chunks.load_latents(facts.key, file.shape)
    except ChunkMissing:
        for take, chunk in file.users:
            found.missing.setdefault(take, set()).add(chunk)
        return
    except ChunkDamaged as damage:
        found.damaged.append((file, damage))
        proved = True
    found.files += 1
    found.unproved += not proved
