"""Endless prompts from the toybox's grammar, drawn as `train.data.prompt_files.PromptStream` draws from a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..toybox import world
from ..toybox.captions import caption
from ..toybox.world import Attributes
from ..train.data.prompt_files import PromptPair
from ..train.data.shuffling import first_place

SALT = 0x70726F6D  # separates these draws from those of other parts that use the same seed


@dataclass(frozen=True, kw_only=True)
class ToyboxPair(PromptPair):
    """A prompt and its follow-up as sentences, and the attributes they request. `follow_up` is never missing."""

    before: Attributes
    after: Attributes


class ToyboxPrompts:
    """Pairs of toybox prompts: a random combination in random words, and one that differs from it, usually slightly.

    Combinations that training excludes (`world.is_held_out`) are never drawn. A draw follows from seed, step, count,
    rank and ranks alone, and the ranks' draws together are what one rank would draw.
    """

    def __init__(self, seed: int):
        if seed < 0:
            raise ValueError(f"seed {seed}: it must not be negative")
        self.seed = seed

    def draw(self, step: int, count: int, rank: int = 0, ranks: int = 1) -> list[ToyboxPair]:
        """Return a rank's `count` pairs at a step. ValueError for a negative step, no count, or an invalid rank."""
        start = first_place(step, count, rank, ranks)
        return [self._at(place) for place in range(start, start + count)]

    def _at(self, place: int) -> ToyboxPair:
        rng = np.random.default_rng((self.seed, place, SALT))
        before = world.random_attributes(rng)
        after = world.changed_attributes(before, rng)
        return ToyboxPair(caption(before, rng), caption(after, rng), before=before, after=after)
