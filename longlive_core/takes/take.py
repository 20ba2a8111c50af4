"""A take: a film whose every chunk is stored as soon as it is rendered, and is never rendered twice.

Rendering a take processes its chunks in order. Stored latents are not computed again, a stored unit of video is not
decoded or encoded again; missing chunks are rendered exactly as in an uninterrupted render. So a film that was stopped,
extended, or changed late in its timeline resumes where it can, and a change of the encoder's settings only decodes.
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
from .manifest import FILM, GROWING, Manifest, take_id
from .store import TakeStore


@dataclass
class Take:
    """One film in a store. Create it with `plan_take` or `open_take`."""

    store: TakeStore
    manifest: Manifest
    plan: Plan
    origin: Origin
    encoding: Encoding
    shots: list[ShotKeys]
    given: StartChunks = field(default_factory=StartChunks)
    new: bool = True  # whether the store has no such take yet
    names: list[dict] = field(default_factory=list)  # its origin under all its names, old ones too, as in manifests
    growing_name: str = GROWING  # another name while a player holds this one open

    @property
    def film_path(self) -> Path:
        """The film: all of it, or what was stored when the last render began or ended."""
        return self.store.take_folder(self.manifest.id) / FILM

    @property
    def growing_path(self) -> Path:
        """The film while it is rendered, playable at any moment; its last chunk may be one behind."""
        return self.store.take_folder(self.manifest.id) / self.growing_name

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def reused(self) -> int:
        """The number of chunks that need no rendering."""
        return self.store.done(self.manifest)

    @property
    def has_film(self) -> bool:
        """Whether its first chunk can be played."""
        return self.store.has_unit(self.manifest.keys[0], self.manifest.unit)

    @property
    def keys(self) -> list[str]:
        """The keys of its chunks."""
        return [key for shot in self.shots for key in shot.keys]

    def unit_of(self, chunk: int) -> UnitInfo:
        """Return what is known of a chunk's unit of video."""
        shot = self.shot_of(chunk)
        size = (self.encoding.width, self.encoding.height)
        return UnitInfo(shot.keys[chunk - shot.start], self.manifest.unit, self.frames_of(chunk), size)

    def shot_of(self, chunk: int) -> ShotKeys:
        """Return the shot that a chunk of the film belongs to."""
        return self.shots[bisect_right(self.shots, chunk, key=lambda shot: shot.start) - 1]

    def frames_of(self, chunk: int) -> int:
        """Return the number of pixel frames of a chunk of the film."""
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
    """Write the stored part of a take, up to the first gap, as one MP4; units are copied. Return its frames.

    metadata: its tags. subtitles: whether its prompts become subtitles and chapters. damaged: called with the error of
    a damaged unit, which then counts as a gap; by default the error is raised and no film is written.
    """
    lines = subtitles_of_take(take) if subtitles else ()
    with FilmWriter(path, **take.encoding, metadata=metadata, subtitles=lines) as film:
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
    """Return the prompts of a stored take as subtitles, each from its first frame on."""
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
    """Like `plan_take`, and write the manifest: from here on the chunks that it names are kept."""
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
    """Return the take of this film: a new one, or the one that was begun before. Writes nothing.

    The store may hold the film under an old name of its origin or its VAE. The names are tried in order; the one with
    most chunks rendered, then most decoded, then with a take begun, is used from here on.

    Args:
        timeline: the text as written.
        given: the start chunks, all of them in the store.
    """
    if given is not None and given.vae_width is not None:
        check_vae(given.vae_width, vae.width)
    given = StartChunks() if given is None else given
    exact = plan_text(plan)
    choices: list[tuple[tuple[int, int], Take]] = []
    for name in (origin, *origin.aliases):
        check_cancelled()
        shots = shots_of(plan, name, given.under(name))
        files = store.files_of(key for shot in shots for key in shot.keys)
        for unit in vae.units(asdict(encoding)):
            take = _planned(store, timeline, exact, plan, name, shots, encoding, unit, vae.width, given.under(name))
            choices.append((stored(files, take.manifest), take))
    # Among equals the first that was begun, else the first.
    _, take = max(choices, key=lambda choice: (*choice[0], not choice[1].new))
    take.names = origin.names()
    return take


def stored(files: Collection[str], take: Manifest) -> tuple[int, int]:
    """Return (chunks with stored latents, chunks with stored units). files: from `TakeStore.files_of`."""
    keys = take.keys
    return len(keys_of(files, latents_name(""), keys)), len(keys_of(files, unit_name("", take.unit), keys))


def check_vae(theirs: int, width: int) -> None:
    """Raise TakeError if latents of one kind of VAE would be decoded by another, to which they are noise."""
    if theirs != width:
        raise TakeError(
            f"the take was rendered with a VAE of width {theirs}, this one has {width} (Wan 2.1's: 96), which "
            "decodes its latents to noise; use the model and the VAE it was rendered with"
        )


def changed_take(take: Take, plan: Plan) -> Take:
    """Return the take with another plan and the keys of its chunks. Its manifest stays the old one, see `named`."""
    shots = shots_of(plan, take.origin, take.given, take.shots, same_chunks(take.plan, plan))
    return replace(take, plan=plan, shots=shots)


def named(take: Take) -> Take:
    """Return a changed take with its new manifest and id, its timeline in exact chunks. Writes nothing."""
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
    """Return how many chunks at their start two plans of a film have in common."""
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
        given=min(given.foreign(origin), plan.chunks),  # a film may end within them
    )
    new = True
    with contextlib.suppress(TakeError):  # no manifest yet, or a damaged one: its chunks are found by their keys anyway
        manifest.created = min(manifest.created, store.read_manifest(manifest.id).created)  # in case a clock was ahead
        new = False
    return Take(store, manifest, plan, origin, encoding, shots, given, new)


def segment_data(segment: PlannedSegment) -> dict:
    """Return a planned segment as plain data, as in manifests."""
    data = {"chunk": segment.start_chunk, "transition": segment.transition, "text": segment.text}
    data |= {} if segment.seed is None else {"seed": segment.seed}
    return data | ({"blend": segment.blend} if segment.blend else {})


def reason_for(take: Take) -> str | None:
    """Return why chunks must be rendered; None if none must be, or if no stored take resembles this one."""
    if take.reused == take.plan.chunks:
        return None
    return closest_difference(take.store, take.manifest, take.names) if take.new else "it was not finished"


def reuse(take: Take) -> str:
    """Describe what is reused and why the rest is not, such as "prompt 4 changed: 38 of 60 chunks reused"."""
    reused = f"{take.reused} of {count(take.plan.chunks, 'chunk')} reused"
    reason = reason_for(take)
    return f"take {take.manifest.id}: {f'{reason}: ' if reason else ''}{reused}"
