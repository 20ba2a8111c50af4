"""The estimate of a run before it begins: chunks, time, memory, space on disk.

Chunks and the bytes of latents are exact, memory is a lower bound (`memory.py`), time follows from measurements on this
machine (`speed.py`), the size of the video from a measurement or else an assumption.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cancelling import cancellable
from ..config import StreamConfig
from ..model import CausalWan
from ..takes.usage import in_the_way, removed_line
from ..timeline import Plan
from ..words.quantities import duration_text, gigabytes
from ..words.wording import count
from .memory import MemoryPlan, Need
from .speed import Speed, SpeedBook, SpeedKey, speed_key

if TYPE_CHECKING:
    from ..takes import Take

# Bytes of H.264 per pixel and frame if none were measured: those of the pocket model's films at crf 18.
ASSUMED_VIDEO = 0.1


class NotEnoughDisk(ValueError):
    """A folder has no space for the run's files. The message states what is needed, what is free and what to do."""


@dataclass(frozen=True)
class Space:
    """Bytes that the run needs in `folder` at its peak, and those free there; None: unknown."""

    folder: Path
    needed: int
    free: int | None

    def check(self) -> None:
        if self.free is not None and self.needed > self.free:
            raise NotEnoughDisk(
                f"the run needs {gigabytes(self.needed)}, and has {gigabytes(self.free)} free in '{self.folder}': "
                "free some space, shorten the film, or choose another folder"
            )


@dataclass(frozen=True)
class Limit:
    """The limit of a store of takes, and what counts towards it.

    Attributes:
        limit: bytes.
        held: bytes in the store.
        kept: those of them that the film uses.
        needed: bytes that the run adds at its peak.
        rendered, unreadable, other: bytes that cannot be removed either: of takes being rendered, of what cannot be
            read, of foreign files.
    """

    limit: int
    held: int
    kept: int
    needed: int
    rendered: int = 0
    unreadable: int = 0
    other: int = 0

    @property
    def stays(self) -> int:
        """Bytes that cannot be removed."""
        return self.kept + self.rendered + self.unreadable + self.other

    @property
    def to_remove(self) -> int:
        """Bytes of other takes that will be removed."""
        return max(0, min(self.held + self.needed - self.limit, self.held - self.stays))

    def check(self) -> None:
        """Raise NotEnoughDisk if the film does not fit even after everything removable is removed."""
        if self.kept + self.needed > self.limit:
            raise NotEnoughDisk(
                f"the limit of {gigabytes(self.limit)} for the takes is too small for this film: while it is rendered, "
                f"it takes {gigabytes(self.kept + self.needed)} there. Raise it (--takes-limit; in ComfyUI "
                "LONGLIVE_TAKES_LIMIT), or shorten the film"
            )
        if self.stays + self.needed > self.limit:
            raise NotEnoughDisk(
                f"the limit of {gigabytes(self.limit)} for the takes cannot be kept: this film takes "
                f"{gigabytes(self.kept + self.needed)} there, and {self.in_the_way()} cannot be removed. "
                "Raise it (--takes-limit; in ComfyUI LONGLIVE_TAKES_LIMIT), or make room: see `takes list`"
            )

    def in_the_way(self) -> str:
        """Describe what, besides the film, cannot be removed."""
        return in_the_way(self.rendered, self.unreadable, self.other)


@dataclass(frozen=True)
class Estimate:
    """The estimate of rendering a plan, from `estimate_film`.

    Attributes:
        plan: the film.
        key: device, model and settings.
        made: chunks to be denoised; the others are stored.
        encoded: chunks to be decoded and encoded.
        speed: the last measurement under `key`; None: not measured here yet.
        need: memory on the device.
        available: bytes available for `need`; None: unknown.
        device: such as "cuda:0".
        main: bytes of main memory available in addition; 0 if the device is the CPU, or unknown.
        latents: bytes of the latents to be stored.
        video: bytes of the film.
        measured: whether `video` follows from a measurement, not from an assumption.
        spaces: space needed on the disks, one for each file system.
        limit: of the store; None without one.
    """

    plan: Plan
    key: SpeedKey
    made: int
    encoded: int
    speed: Speed | None
    need: Need
    available: int | None
    device: str
    main: int
    latents: int
    video: int
    measured: bool
    spaces: tuple[Space, ...]
    limit: Limit | None

    @property
    def seconds(self) -> float | None:
        """Expected time of the chunks to be rendered; None if nothing was measured."""
        return None if self.speed is None else self.made * self.speed.seconds

    def check(self) -> None:
        """Raise NotEnoughMemory or NotEnoughDisk if the run cannot succeed."""
        self.need.check(self.available, self.device)
        if self.limit is not None:
            self.limit.check()
        for space in self.spaces:
            space.check()

    def describe(self) -> str:
        """Return the estimate as text, with lines for chunks, time, memory and disk."""
        return "\n".join(f"  {what:8}{text}" for what, text in self._lines())

    def describe_time(self) -> str:
        if not self.made:
            return "no chunk has to be rendered"
        if self.speed is None:
            return "not measured here yet"
        each = self.speed.seconds
        rate = f"{each:.{2 if each < 10 else 0}f} s each"
        return (
            f"about {duration_text(self.seconds)} for {count(self.made, 'chunk')} ({rate}, measured {self.speed.date} "
            f"on {self.key.device})"
        )

    def _lines(self) -> list[tuple[str, str]]:
        total, room = self.plan.chunks, self.available
        decoded = max(0, self.encoded - self.made)
        lines = [
            (
                "chunks:",
                f"{self.made} of {total} to be rendered" + (f", {decoded} more to be decoded" if decoded else ""),
            ),
            ("time:", self.describe_time()),
            (
                "memory:",
                f"at least {self.need.describe()} on {self.device}"
                + (f", which has {gigabytes(room)} available" if room is not None else ""),
            ),
        ]
        if self.main:
            what = (
                "text encoder; weights while they load" if not self.need.moving else "text encoder; caches not in use"
            )
            lines.append(("", f"and {gigabytes(self.main)} of main memory ({what})"))
        if room is not None and self.need.proposes_int8(room):
            lines.append(
                (
                    "",
                    f"in INT8 (Quantize INT8) the model takes {gigabytes(self.need.saved_by_int8)} less, and "
                    "more would stay on the device; its film differs slightly",
                )
            )
        video = f"film {gigabytes(self.video)}, {'by the last one measured' if self.measured else 'assumed'}"
        for space in self.spaces:
            free = "" if space.free is None else f", {gigabytes(space.free)} free"
            lines.append(("disk:", f"{gigabytes(space.needed)} in '{space.folder}'{free}"))
        lines.append(("", f"({video}{f'; latents {gigabytes(self.latents)}' if self.latents else ''})"))
        if self.limit is not None:
            most, held, gone = (gigabytes(n) for n in (self.limit.limit, self.limit.held, self.limit.to_remove))
            lines.append(
                (
                    "limit:",
                    f"{most} for the takes, {held} used"
                    + (f"; {gone} of other takes will be removed" if self.limit.to_remove else ""),
                )
            )
        return lines


def estimate_film(
    model: CausalWan,
    plan: Plan,
    stream: StreamConfig,
    size: tuple[int, int],
    memory: MemoryPlan,
    film: str | os.PathLike,
    take: Take | None = None,
    book: SpeedBook | None = None,
) -> Estimate:
    """Estimate what rendering `plan` to the file `film` will take.

    Args:
        model: its shape, dtype and device count.
        size: (width, height) in pixels.
        memory: what the run needs, and what is available.
        take: the chunks stored so far; None: chunks are kept beside the film until it is finished.
        book: the speeds measured before; None: none.
    """
    key = speed_key(model, stream, size)
    rate = book.video_rate(key) if book is not None else None
    frame = size[0] * size[1] * (ASSUMED_VIDEO if rate is None else rate)
    if take is None:
        made = encoded = plan.chunks
        latents, fresh = made * _latent_bytes(model, plan, size), int(frame * plan.frames)
        video = fresh
    else:
        made = len(chunks_to_make(take))
        latents = made * _latent_bytes(model, plan, size)
        encoded, fresh, video = _video_to_store(take, frame * plan.frames / plan.chunks)
    spaces, limit = _disk(Path(film), fresh, video, latents, take)
    return Estimate(
        plan=plan,
        key=key,
        made=made,
        encoded=encoded,
        speed=None if book is None else book.recall(key),
        need=memory.need,
        available=memory.available,
        device=str(model.device),
        main=memory.main,
        latents=latents,
        video=video,
        measured=rate is not None or encoded == 0,
        spaces=spaces,
        limit=limit,
    )


def make_room(take: Take, expected: Estimate, say: Callable[[str], None]) -> None:
    """Tidy the store, and make space under its limit for rendering the take; report which takes are removed.

    NotEnoughDisk if what cannot be removed leaves too little space.
    """
    limit, store = expected.limit, take.store
    for gone in store.make_room(0 if limit is None else limit.needed, take.manifest):
        say(removed_line(gone, store.limit))
    if limit is not None and store.size() + limit.needed > limit.limit:
        _limit(take, limit.needed).check()
        raise NotEnoughDisk(
            f"the limit of {gigabytes(limit.limit)} for the takes cannot be kept: a take that must be "
            f"removed for this film, which takes {gigabytes(limit.kept + limit.needed)} there, cannot be "
            "removed: close the program that shows its film"
        )


def _limit(take: Take, needed: int) -> Limit | None:
    """Return the store's limit and what counts towards it. needed: bytes that the run adds at its peak."""
    store = take.store
    if store.limit is None:
        return None
    held = store.usage(take.manifest)
    return Limit(store.limit, held.size, held.film, needed, held.rendered, held.unreadable, held.other)


def chunks_to_make(take: Take) -> list[int]:
    """Return the numbers of the chunks to be denoised. Of equal shots only the first counts, see `takes/keys.py`."""
    keys, made = take.manifest.keys, {}
    there = set(take.store.with_latents(keys))
    for chunk, key in enumerate(keys):
        if key not in there:
            made.setdefault(key, chunk)
    return list(made.values())


def _latent_bytes(model: CausalWan, plan: Plan, size: tuple[int, int]) -> int:
    """Return the bytes of a chunk's latents in a store."""
    return model.config.in_dim * plan.chunk * (size[1] // 8) * (size[0] // 8) * model.dtype.itemsize


def _video_to_store(take: Take, chunk: float) -> tuple[int, int, int]:
    """Return (chunks to be encoded, bytes of those, bytes of the film). chunk: expected bytes of one."""
    keys, unit = take.manifest.keys, take.manifest.unit
    stored = cancellable(dict.fromkeys(take.store.with_unit(keys, unit)), 500)
    sizes = {key: take.store.unit_path(key, unit).stat().st_size for key in stored}
    there, missing = sum(sizes.get(key, 0) for key in keys), [key for key in keys if key not in sizes]
    fresh = len(set(missing))
    return fresh, int(chunk * fresh), there + int(chunk * len(missing))


def _disk(
    film: Path,
    fresh: int,
    video: int,
    latents: int,
    take: Take | None,
) -> tuple[tuple[Space, ...], Limit | None]:
    """Return the space needed on each disk, and the store's limit.

    fresh: bytes of the chunks' video to be stored. video: bytes of the whole film. latents: bytes of the new latents.
    """
    # After the last chunk the growing film and the finished one exist side by side for a moment. The film at `film` is
    # written after the growing one was removed, so on one file system it needs no more space.
    needed = latents + fresh + 2 * video
    if take is None:
        return (Space(film.parent, needed, free_disk(film.parent)),), None
    store = take.store
    limit = _limit(take, needed)
    spaces = [Space(store.folder, needed, _plus(free_disk(store.folder), limit))]
    if _file_system(store.folder) != _file_system(film.parent):
        spaces.append(Space(film.parent, video, free_disk(film.parent)))
    return tuple(spaces), limit


def _plus(free: int | None, limit: Limit | None) -> int | None:
    """Return what will be free after other takes are removed."""
    return free if free is None or limit is None else free + limit.to_remove


def free_disk(folder: Path) -> int | None:
    """Return the bytes free on the disk of `folder`, which need not exist yet; None: unknown."""
    try:
        return shutil.disk_usage(_existing(folder)).free
    except OSError:
        return None


def _file_system(folder: Path) -> int | None:
    try:
        return _existing(folder).stat().st_dev
    except OSError:
        return None


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest existing one above it."""
    folder = folder.absolute()
    return next((place for place in (folder, *folder.parents) if place.exists()), folder)
