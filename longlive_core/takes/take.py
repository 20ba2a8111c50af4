"""A take: a film whose every chunk lies in the store as soon as it is made, and is never made twice.

Rendering a take goes through its chunks in order. A chunk of latents that is stored is not computed, a unit of video
that is stored is not decoded or encoded; whatever is missing is made from what is there, exactly as an uninterrupted
render would have made it. So a render that was stopped, lengthened, or changed late in its timeline goes on where it
can, and a change of the encoder's settings decodes without rendering.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..cancelling import cancellable, check_cancelled
from ..film.subtitles import Subtitle
from ..film.tags import cuts_of, start_frame
from ..film.video import Encoding, FilmWriter
from ..timeline import Plan, PlannedSegment, plan_text, shot_boundary
from ..words.wording import count
from .checksums import UnitInfo
from .chunks import keys_of, latents_name, unit_name
from .differences import closest_difference
from .errors import ChunkDamaged, TakeError
from .keys import Origin, ShotKeys, StartChunks, VaeIdentity, shots_of
from .manifest import Manifest, take_id
from .room import FILM, GROWING
from .store import TakeStore


@dataclass
class Take:
    """One film in a store. Make it by `plan_take` or `open_take`."""

    store: TakeStore
    manifest: Manifest
    plan: Plan
    origin: Origin
    encoding: Encoding
    shots: list[ShotKeys]
    given: StartChunks = field(default_factory=StartChunks)
    new: bool = True  # whether the store did not know it
    names: list[dict] = field(default_factory=list)  # of its origin, old ones too, as in manifests
    growing_name: str = GROWING  # another one while a player holds it

    @property
    def film_path(self) -> Path:
        """The film: all of it, or what there was when the last render began or ended."""
        return self.store.take_folder(self.manifest.id) / FILM

    @property
    def growing_path(self) -> Path:
        """The film while it is rendered, playable at any moment; the newest chunk may wait for the next."""
        return self.store.take_folder(self.manifest.id) / self.growing_name

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def reused(self) -> int:
        """Chunks that need no rendering."""
        return self.store.done(self.manifest)

    @property
    def has_film(self) -> bool:
        """Whether there is a first chunk to play."""
        return self.store.has_unit(self.manifest.keys[0], self.manifest.unit)

    @property
    def keys(self) -> list[str]:
        """Those of its chunks."""
        return [key for shot in self.shots for key in shot.keys]

    def unit_of(self, chunk: int) -> UnitInfo:
        """What is known of a chunk's unit of video."""
        shot = self.shot_of(chunk)
        size = (self.encoding.width, self.encoding.height)
        return UnitInfo(shot.keys[chunk - shot.start], self.manifest.unit, self.frames_of(chunk), size)

    def shot_of(self, chunk: int) -> ShotKeys:
        """The shot that a chunk of the film belongs to."""
        return self.shots[bisect_right(self.shots, chunk, key=lambda shot: shot.start) - 1]

    def frames_of(self, chunk: int) -> int:
        """Pixel frames of a chunk of the film."""
        inside, size = chunk - self.shot_of(chunk).start, self.plan.chunk
        return shot_boundary(inside + 1, size) - shot_boundary(inside, size)

    def join(
        self,
        path: str | os.PathLike,
        metadata: Mapping[str, str] | None = None,
        subtitles: bool = True,
        damaged: Callable[[ChunkDamaged], None] | None = None,
    ) -> int:
        """See `join`."""
        return join(self.store, self.manifest, path, metadata, subtitles, damaged)


def join(
    store: TakeStore,
    take: Manifest,
    path: str | os.PathLike,
    metadata: Mapping[str, str] | None = None,
    subtitles: bool = True,
    damaged: Callable[[ChunkDamaged], None] | None = None,
) -> int:
    """Write what is there of a take as one MP4, up to the first gap, units copied as they are; returns the frames.

    metadata: its tags. subtitles: whether its prompts become subtitles and chapters. damaged: takes the error of a
    damaged unit, which then is such a gap; by default it is raised, and there is no film.
    """
    said = subtitles_of_take(take) if subtitles else ()
    with FilmWriter(path, **take.encoding, metadata=metadata, subtitles=said) as film:
        for unit in cancellable(take.units()):
            if not store.has_unit(unit.key, unit.unit):
                break
            try:
                film.add(store.chunks.load_unit(unit))
            except ChunkDamaged as error:
                if damaged is None:
                    raise
                damaged(error)
                break
    return film.frames


def subtitles_of_take(take: Manifest) -> list[Subtitle]:
    """The prompts of a film of stored chunks, each from its first frame on."""
    cuts, size = cuts_of(take.segments), take.origin["stream"]["chunk"]
    return [Subtitle(start_frame(segment["chunk"], cuts, size), segment["text"]) for segment in take.segments]


def open_take(
    store: TakeStore,
    timeline: str,
    plan: Plan,
    origin: Origin,
    encoding: Encoding,
    vae: VaeIdentity,
    given: StartChunks | None = None,
) -> Take:
    """As `plan_take`; its manifest is written, so from here on the chunks that it names stay."""
    take = plan_take(store, timeline, plan, origin, encoding, vae, given)
    store.write_manifest(take.manifest)
    return take


def plan_take(
    store: TakeStore,
    timeline: str,
    plan: Plan,
    origin: Origin,
    encoding: Encoding,
    vae: VaeIdentity,
    given: StartChunks | None = None,
) -> Take:
    """The take of this film: a new one, or the one that was begun before. Writes nothing.

    A film may lie in the store under an old name of its origin or its VAE: the names are tried in their order, and the
    first with most chunks rendered, then with most decoded, then with a take begun, is the film's from here on.

    Args:
        timeline: the text as written.
        given: the chunks it begins with, all of them in the store.
    """
    if given is not None and given.vae_width is not None:
        check_vae(given.vae_width, vae.width)
    given = StartChunks() if given is None else given
    exact = plan_text(plan)
    choices: list[tuple[tuple[int, int], Take]] = []
    for name in (origin, *origin.aliases):
        check_cancelled()
        shots = shots_of(plan, name, given.under(name))
        there = store.files_of(key for shot in shots for key in shot.keys)
        for unit in vae.units(asdict(encoding)):
            take = _planned(store, timeline, exact, plan, name, shots, encoding, unit, vae.width, given.under(name))
            choices.append((stored(there, take.manifest), take))
    # Of those with as much rendered and decoded the first that was begun, else the first.
    _, take = max(choices, key=lambda choice: (*choice[0], not choice[1].new))
    take.names = origin.names()
    return take


def stored(files: Collection[str], take: Manifest) -> tuple[int, int]:
    """(chunks of a take whose latents are there, those whose units are there). files: from `TakeStore.files_of`."""
    keys = take.keys
    return len(keys_of(files, latents_name(""), keys)), len(keys_of(files, unit_name("", take.unit), keys))


def check_vae(theirs: int, width: int) -> None:
    """Raise TakeError where latents of a VAE of one width are to be decoded by another: they would be noise to it."""
    if theirs != width:
        raise TakeError(
            f"the take was made with a VAE of width {theirs}, this one has {width} (Wan 2.1's: 96): its "
            "latents mean something else there; use the model and the VAE it was made with"
        )


def changed_take(take: Take, plan: Plan) -> Take:
    """The same take with another plan, and the keys of its chunks. Its manifest stays what it was, see `named`."""
    shots = shots_of(plan, take.origin, take.given, take.shots, same_chunks(take.plan, plan))
    return replace(take, plan=plan, shots=shots)


def named(take: Take) -> Take:
    """A changed take with the manifest of what it has become, its timeline in exact chunks. Writes nothing."""
    text = plan_text(take.plan)
    return _planned(
        take.store,
        text,
        text,
        take.plan,
        take.origin,
        take.shots,
        take.encoding,
        take.manifest.unit,
        take.manifest.vae_width,
        take.given,
    )


def same_chunks(one: Plan, other: Plan) -> int:
    """How many chunks two plans of a film begin alike with."""
    for a, b in zip(one.segments, other.segments, strict=False):
        if a is b:
            continue
        if _prompt(a) != _prompt(b):
            return min(a.start_chunk, b.start_chunk)
        if a.chunks != b.chunks:
            return a.start_chunk + min(a.chunks, b.chunks)
    return min(one.chunks, other.chunks)


def _prompt(segment: PlannedSegment) -> tuple:
    return segment.start_chunk, segment.text, segment.transition, segment.seed, segment.blend


def _planned(
    store: TakeStore,
    timeline: str,
    exact: str,
    plan: Plan,
    origin: Origin,
    shots: list[ShotKeys],
    encoding: Encoding,
    unit: str,
    vae_width: int,
    given: StartChunks,
) -> Take:
    manifest = Manifest(
        id=take_id([list(shot.keys) for shot in shots], unit),
        timeline=timeline,
        exact=exact,
        origin=origin.as_json(),
        segments=[segment_data(segment) for segment in plan.segments],
        shots=[list(shot.keys) for shot in shots],
        encoding=asdict(encoding),
        unit=unit,
        vae_width=vae_width,
        given=min(given.foreign(origin), plan.chunks),  # a film may be finished within them
    )
    new = True
    with contextlib.suppress(TakeError):  # none yet, or damaged; its chunks are found by their keys in any case
        manifest.created = min(manifest.created, store.read_manifest(manifest.id).created)  # no clock was ahead
        new = False
    return Take(store, manifest, plan, origin, encoding, shots, given, new)


def segment_data(segment: PlannedSegment) -> dict:
    """A planned segment as it stands in manifests."""
    data = {"chunk": segment.start_chunk, "transition": segment.transition, "text": segment.text}
    data |= {} if segment.seed is None else {"seed": segment.seed}
    return data | ({"blend": segment.blend} if segment.blend else {})


def reason_for(take: Take) -> str | None:
    """Why there is something to render; None where there is not, or where no stored take resembles this one."""
    if take.reused == take.plan.chunks:
        return None
    return closest_difference(take.store, take.manifest, take.names) if take.new else "it was not finished"


def reuse(take: Take) -> str:
    """What is reused and why the rest is not, for people: "prompt 4 changed: 38 of 60 chunks reused"."""
    said = f"{take.reused} of {count(take.plan.chunks, 'chunk')} reused"
    reason = reason_for(take)
    return f"take {take.manifest.id}: {f'{reason}: ' if reason else ''}{said}"
