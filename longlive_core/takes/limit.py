"""The limit of a store while a film is rendered, also one without an end: others make room, or the film ends.

The store is looked at when a render begins, and when its running count says that the next chunk may not fit if somebody
else has written as much since, and now and then. In between a chunk costs a few looks at files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..words.quantities import gigabytes
from .disk import bytes_of
from .room import in_the_way, make_room, removed_line, store_usage

if TYPE_CHECKING:
    from .take import Take

LOOK_AGAIN = 64  # chunks after which the store is counted anew
_OVERHEAD = 4096  # bytes that a chunk adds to both films beside its video: a fragment, an entry in the index
_MARGIN = 2  # a picture may begin to move: so much larger than any before it a chunk's video may be


class SpaceLimit:
    """Bytes that are left for one film. started: the take that its render began with. say: is told which takes went."""

    def __init__(self, started: Take, say: Callable[[str], None]):
        self._started, self._limit, self._say = started, started.store.limit, say
        self._left: int | None = None  # not counted yet
        self._since = self._written = 0  # chunks and their bytes, since it was counted
        self._growing = 0  # bytes of the growing film, as many as the finished one will take
        self._latents, self._frame = 0, 0.0  # bytes of the largest latents of this film, and video a frame

    def fits(self, take: Take, chunk: int, endless: bool) -> bool:
        """Whether a chunk can be made, and the film finished after it; where not even after other takes went, False."""
        if self._limit is None:
            return True
        # The last chunk of a film that was found to fit is not refused for a margin: the film would lack it alone.
        needed = self._needed(take, chunk, margin=endless or chunk + 1 < take.plan.chunks)
        if self._left is None or self._left < needed + self._written or self._since >= LOOK_AGAIN:
            self._make_room(take, needed)
        return self._left >= needed

    def made(self, take: Take, chunk: int, new_latents: bool, new_unit: bool) -> None:
        """A chunk is stored, and in the growing film."""
        if self._limit is None:
            return
        key = take.unit_of(chunk).key
        latents = bytes_of([take.store.latents_path(key)])
        unit = bytes_of([take.store.unit_path(key, take.manifest.unit)])
        before, self._growing = self._growing, bytes_of([self._started.growing_path])
        self._latents = max(self._latents, latents)
        self._frame = max(self._frame, unit / take.frames_of(chunk))
        self._since += 1
        if self._left is not None:
            written = new_latents * latents + new_unit * unit + self._growing - before
            self._left, self._written = self._left - written, self._written + written

    def reason(self, take: Take) -> str:
        """Why the film cannot be longer."""
        held = store_usage(take.store, take.manifest, self._started.id)
        rest = in_the_way(held.rendered, held.unreadable, held.other)
        return (
            f"the limit of {gigabytes(self._limit)} for the takes is reached: {gigabytes(held.film)} are this "
            f"film's{f', {rest} cannot be removed' if rest else ''}. Raise it, or make room"
        )

    def _needed(self, take: Take, chunk: int, margin: bool) -> int:
        """Bytes for a chunk: in the store, in the growing film, and with all before it in the finished one."""
        store, manifest = take.store, take.manifest
        key = take.unit_of(chunk).key if chunk < take.plan.chunks else None  # of a film without an end none yet
        stored = bytes_of([store.unit_path(key, manifest.unit)]) if key else 0
        unit = stored or int(self._frame * (take.frames_of(chunk) if key else 4 * take.plan.chunk))
        fresh = 0 if key and store.has_latents(key) else self._latents
        needed = fresh + (0 if stored else unit) + 2 * unit + self._growing
        if margin:  # and for the manifests: the next one, a part of it; for its prompts in the film
            manifests = 3 * bytes_of([store.manifest_path(take.id)])
            needed += 3 * (_MARGIN - 1) * (0 if stored else unit) + _OVERHEAD + manifests
        return needed

    def _make_room(self, take: Take, needed: int) -> None:
        gone, size = make_room(take.store, needed, take.manifest)
        for other in gone:
            self._say(removed_line(other, self._limit))
        self._left, self._since, self._written = self._limit - size, 0, 0
