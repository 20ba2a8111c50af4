"""The limit of a store while a film is rendered, also an endless one: other takes are removed, or the film ends.

The store is measured when a render begins, and every `LOOK_AGAIN` chunks. It is also measured when, by the running
count, the next chunk may not fit if another process has written as much since the last measurement. In between, a chunk
needs only a few file sizes.
"""

from __future__ import annotations

from collections.abc import Callable

from ..words.quantities import gigabytes
from .disk import bytes_of
from .eviction import make_room
from .take import Take
from .usage import in_the_way, removed_line, store_usage

LOOK_AGAIN = 64  # chunks after which the store is measured again
_OVERHEAD = 4096  # bytes that a chunk adds to both films besides its video: a fragment, an index entry
_MARGIN = 2  # a picture may begin to move: a chunk's video may be this many times larger than any before it


class SpaceLimit:
    """Counts the bytes left for one film.

    started: the take that its render began with. say: called with a line for each removed take.
    """

    def __init__(self, started: Take, say: Callable[[str], None]):
        self._started, self._limit, self._say = started, started.store.limit, say
        self._left: int | None = None  # not measured yet
        self._since = self._written = 0  # chunks and their bytes since the last measurement
        self._growing = 0  # bytes of the growing film; the finished one takes as many
        self._latents, self._frame = 0, 0.0  # largest bytes so far of a chunk's latents, and of video per frame

    def fits(self, take: Take, chunk: int, endless: bool) -> bool:
        """Return whether the chunk can be rendered and the film finished after it; may remove other takes."""
        if self._limit is None:
            return True
        # The last chunk of a film that fits is not refused for a margin: the film would lack only this chunk.
        needed = self._needed(take, chunk, margin=endless or chunk + 1 < take.plan.chunks)
        if self._left is None or self._left < needed + self._written or self._since >= LOOK_AGAIN:
            self._make_room(take, needed)
        return self._left >= needed

    def add(self, take: Take, chunk: int, new_latents: bool, new_unit: bool) -> None:
        """Count a chunk that was stored and added to the growing film."""
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
        """Return why the film cannot be longer."""
        usage = store_usage(take.store, take.manifest, self._started.id)
        rest = in_the_way(usage.rendered, usage.unreadable, usage.other)
        return (
            f"the limit of {gigabytes(self._limit)} for the takes is reached: {gigabytes(usage.film)} are this "
            f"film's{f', {rest} cannot be removed' if rest else ''}. Raise it, or make room"
        )

    def _needed(self, take: Take, chunk: int, margin: bool) -> int:
        """Return the bytes for a chunk: in the store, in the growing film, and the whole finished film so far."""
        store, manifest = take.store, take.manifest
        key = take.unit_of(chunk).key if chunk < take.plan.chunks else None  # an endless film has none yet
        stored = bytes_of([store.unit_path(key, manifest.unit)]) if key else 0
        unit = stored or int(self._frame * (take.frames_of(chunk) if key else 4 * take.plan.chunk))
        fresh = 0 if key and store.has_latents(key) else self._latents
        needed = fresh + (0 if stored else unit) + 2 * unit + self._growing
        if margin:  # and for manifests: the next one, its temporary file, and the prompts in the film
            manifests = 3 * bytes_of([store.manifest_path(take.id)])
            needed += 3 * (_MARGIN - 1) * (0 if stored else unit) + _OVERHEAD + manifests
        return needed

    def _make_room(self, take: Take, needed: int) -> None:
        removed, size = make_room(take.store, needed, take.manifest)
        for other in removed:
            self._say(removed_line(other, self._limit))
        self._left, self._since, self._written = self._limit - size, 0, 0
