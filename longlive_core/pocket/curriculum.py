"""Training data of the stages `tune` and `stream`: excerpts of long films, partly rendered by the model itself.

Shapes: as in `film_pool.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..train.causal_start.teacher_forcing import LAST_SLOT, ForcingLayout
from .clip_pool import TrainingClip
from .film_pool import PoolFilm, excerpt
from .forcing import FIRST_CHUNK_CLIPS, FIRST_CHUNKS

Spot = tuple[int, int]  # where an excerpt starts after the film's first chunk, and the chunk whose prompt it trains


@dataclass(frozen=True)
class ExcerptKind:
    """One kind of excerpt: its layout, the clips of a batch, its share of the steps, and where in a film it occurs."""

    name: str
    layout: ForcingLayout
    batch: int
    share: float
    spots: Callable[[PoolFilm], list[Spot]]

    def draw(self, films: list[PoolFilm], rng: np.random.Generator, size: int) -> list[TrainingClip]:
        """Draw random excerpts, with true latents only."""
        fitting = [film for film in films if self.spots(film)]
        chosen = []
        for number in rng.choice(len(fitting), size=size):
            spots = self.spots(fitting[number])
            start, prompt_chunk = spots[rng.integers(len(spots))]
            chosen.append(excerpt(fitting[number], start, self.layout.chunks, prompt_chunk))
        return chosen


def _beginning(film: PoolFilm) -> list[Spot]:
    return [(1, 0)] if not film.switches or film.switches[0] >= 6 else []


def _early(switch: int) -> Callable[[PoolFilm], list[Spot]]:
    return lambda film: [(1, switch)] if film.switches[:1] == (switch,) else []


def _late(film: PoolFilm) -> list[Spot]:
    """Return the spots of switches past the window: three chunks before the switch and four from it on."""
    return [(switch - LAST_SLOT, switch) for switch in film.switches if switch > LAST_SLOT + 1]


def _deep(film: PoolFilm) -> list[Spot]:
    """Return the spots of two chunks of context and three more under one prompt; a switch may be between the two."""
    ends = [*film.switches, film.chunks]
    segments = zip((0, *film.switches), ends, strict=True)
    return [(start, start + 2) for first, end in segments for start in range(max(1, first - 1), end - 4)]


EXCERPT_KINDS = (
    ExcerptKind("beginning", ForcingLayout(6, 2), 2, 0.15, _beginning),
    ExcerptKind("early 2", ForcingLayout(6, 2, switch=2), 2, 0.05, _early(2)),
    ExcerptKind("early 3", ForcingLayout(6, 3, switch=3), 2, 0.05, _early(3)),
    ExcerptKind("early 4", ForcingLayout(8, 2, switch=4), 2, 0.05, _early(4)),
    ExcerptKind("late", ForcingLayout(8, 2, switch=4, held=True), 2, 0.3, _late),
    ExcerptKind("deep", ForcingLayout(6, 4, first=3, held=True), 2, 0.3, _deep),
    # Only the chunk right after a late switch: a subject that breaks there stays broken. Used if settings request it.
    ExcerptKind("change", ForcingLayout(5, 6, switch=4, held=True), 3, 0.0, _late),
)
STARTS_SHARE = 1 - sum(kind.share for kind in EXCERPT_KINDS)  # of steps on first chunks alone


class Curriculum:
    """Draws the batches. The model renders some excerpts itself; these serve until they are too old.

    Args:
        starts: first chunks of all combinations.
        films: long films; the list may grow.
        rng: of every other choice than `kinds`.
        kinds: of the kind of excerpt to train or to render; the same on all ranks, so that they take equally long.
        changes: share of the steps on the kind "change"; all others give up the same proportion.
    """

    def __init__(
        self,
        starts: list[TrainingClip],
        films: list[PoolFilm],
        rng: np.random.Generator,
        kinds: np.random.Generator,
        changes: float = 0.0,
    ):
        self.starts, self.films, self.rng, self.kinds = starts, films, rng, kinds
        self.rendered: dict[ExcerptKind, list[TrainingClip]] = {kind: [] for kind in EXCERPT_KINDS}
        self.shares = (1 - changes) * np.array([*(kind.share for kind in EXCERPT_KINDS), STARTS_SHARE])
        self.shares[[kind.name for kind in EXCERPT_KINDS].index("change")] += changes

    def draw_to_render(self, size: int) -> tuple[ExcerptKind, list[TrainingClip]]:
        """Draw a kind, and excerpts of it that the model renders next."""
        shares = self.shares[:-1]
        kind = EXCERPT_KINDS[int(self.kinds.choice(len(EXCERPT_KINDS), p=shares / shares.sum()))]
        return kind, kind.draw(self.films, self.rng, size)

    def add(self, kind: ExcerptKind, rendered: list[TrainingClip], oldest: int) -> None:
        """Add excerpts that the model rendered, and drop those of this kind rendered at step `oldest` or before."""
        self.rendered[kind] = rendered + [clip for clip in self.rendered[kind] if clip.rendered_at > oldest]

    def draw(self, own_rate: float) -> tuple[str, list[TrainingClip], ForcingLayout]:
        """Draw the next batch; `own_rate` is the share of batches of the model's own excerpts, once there are any."""
        number = int(self.kinds.choice(len(self.shares), p=self.shares))
        if number == len(EXCERPT_KINDS):
            chosen = self.rng.choice(len(self.starts), FIRST_CHUNK_CLIPS, replace=False)
            return "start", [self.starts[n] for n in chosen], FIRST_CHUNKS
        kind, own = EXCERPT_KINDS[number], self.rendered[EXCERPT_KINDS[number]]
        if len(own) >= kind.batch and self.rng.random() < own_rate:
            return kind.name, [own[n] for n in self.rng.choice(len(own), kind.batch, replace=False)], kind.layout
        return kind.name, kind.draw(self.films, self.rng, kind.batch), kind.layout
