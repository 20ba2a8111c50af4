"""What the stage `tune` trains on at each step: places of long films, filmed in part by the model itself.

Shapes: as in `long_clips.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..train.causal_start.teacher_forcing import LAST_SLOT, ForcingLayout
from .clip_pool import Clip, ClipPool
from .long_clip_pool import LongClip, LongPool, Window, window
from .train_dit import FIRST_CHUNKS

Spot = tuple[int, int]  # where a window starts after the film's first chunk, and the chunk whose prompt it asks for


@dataclass(frozen=True)
class Place:
    """Where in a film a step trains: a plan, the size of a batch, and the windows of a clip that it fits."""

    name: str
    plan: ForcingLayout
    batch: int
    share: float  # of all steps
    spots: Callable[[LongClip], list[Spot]]

    def draw(self, clips: list[LongClip], rng: np.random.Generator, size: int) -> list[Window]:
        """Random windows, true in all their chunks."""
        fitting = [clip for clip in clips if self.spots(clip)]
        chosen = []
        for number in rng.choice(len(fitting), size=size):
            spots = self.spots(fitting[number])
            start, asked_at = spots[rng.integers(len(spots))]
            chosen.append(window(fitting[number], start, self.plan.chunks, asked_at))
        return chosen


def _beginning(clip: LongClip) -> list[Spot]:
    return [(1, 0)] if not clip.switches or clip.switches[0] >= 6 else []


def _early(switch: int) -> Callable[[LongClip], list[Spot]]:
    return lambda clip: [(1, switch)] if clip.switches[:1] == (switch,) else []


def _late(clip: LongClip) -> list[Spot]:
    """Changes of prompt past the window: three chunks before and four from it on."""
    return [(switch - LAST_SLOT, switch) for switch in clip.switches if switch > LAST_SLOT + 1]


def _deep(clip: LongClip) -> list[Spot]:
    """Places with two chunks of context and three more under one prompt; a change may lie between the two."""
    ends = [*clip.switches, clip.chunks]
    segments = zip((0, *clip.switches), ends, strict=True)
    return [(start, start + 2) for first, end in segments for start in range(max(1, first - 1), end - 4)]


PLACES = (
    Place("beginning", ForcingLayout(6, 2), 2, 0.15, _beginning),
    Place("early 2", ForcingLayout(6, 2, switch=2), 2, 0.05, _early(2)),
    Place("early 3", ForcingLayout(6, 3, switch=3), 2, 0.05, _early(3)),
    Place("early 4", ForcingLayout(8, 2, switch=4), 2, 0.05, _early(4)),
    Place("late", ForcingLayout(8, 2, switch=4, held=True), 2, 0.3, _late),
    Place("deep", ForcingLayout(6, 4, first=3, held=True), 2, 0.3, _deep),
    # Only the chunk right after a late change, where a subject that breaks stays broken. For recipes that ask for it.
    Place("change", ForcingLayout(5, 6, switch=4, held=True), 3, 0.0, _late),
)
STARTS_SHARE = 1 - sum(place.share for place in PLACES)  # of steps on first chunks alone


class Curriculum:
    """Draws the batches. Some windows are filmed by the model (`film`), and serve until they are too old.

    Args:
        starts: first chunks of all combinations.
        pool: long films.
        rng: of every other choice than `kinds`.
        kinds: of the place to train or to film; the same on all ranks, which then take equally long.
        changes: share of the steps that the place "change" takes; the others give it up alike.
    """

    def __init__(
        self,
        starts: ClipPool,
        pool: LongPool,
        rng: np.random.Generator,
        kinds: np.random.Generator,
        changes: float = 0.0,
    ):
        self.starts, self.pool, self.rng, self.kinds = starts.starts, pool, rng, kinds
        self.films: dict[Place, list[Window]] = {place: [] for place in PLACES}
        self.shares = (1 - changes) * np.array([*(place.share for place in PLACES), STARTS_SHARE])
        self.shares[[place.name for place in PLACES].index("change")] += changes

    def film(
        self, make: Callable[[list[Window], ForcingLayout], float], windows: int, oldest: int
    ) -> tuple[str, float]:
        """Let `make` film windows of one place; older ones than of step `oldest` go. -> place, answer."""
        shares = self.shares[:-1]
        place = PLACES[int(self.kinds.choice(len(PLACES), p=shares / shares.sum()))]
        fresh = place.draw(self.pool.clips, self.rng, windows)
        near = make(fresh, place.plan)
        self.films[place] = fresh + [clip for clip in self.films[place] if clip.guessed_at > oldest]
        return place.name, near

    def take(self, windows: list[tuple[Place, Window]], oldest: int) -> None:
        """Add windows that the model filmed elsewhere; those older than of step `oldest` go."""
        for place in PLACES:
            fresh = [window for its, window in windows if its is place]
            self.films[place] = fresh + [clip for clip in self.films[place] if clip.guessed_at > oldest]

    def draw(self, own_rate: float) -> tuple[str, list[Clip], ForcingLayout]:
        """The next step's batch; `own_rate` is the share of batches with the model's own films, once there are any."""
        kind = int(self.kinds.choice(len(self.shares), p=self.shares))
        if kind == len(PLACES):
            plan, batch = FIRST_CHUNKS
            return "start", [self.starts[n] for n in self.rng.choice(len(self.starts), batch, replace=False)], plan
        place, own = PLACES[kind], self.films[PLACES[kind]]
        if len(own) >= place.batch and self.rng.random() < own_rate:
            return place.name, [own[n] for n in self.rng.choice(len(own), place.batch, replace=False)], place.plan
        return place.name, place.draw(self.pool.clips, self.rng, place.batch), place.plan
