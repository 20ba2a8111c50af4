"""Endless shuffled draws that need no saved state: which items a rank gets at a step follows from the step alone."""

from __future__ import annotations

import numpy as np


def first_place(step: int, count: int, rank: int, ranks: int) -> int:
    """Return where a rank's draw begins in the endless sequence that all ranks share. ValueError: invalid arguments."""
    if step < 0 or count < 1 or not 0 <= rank < ranks:
        raise ValueError(
            f"step {step}, count {count}, rank {rank} of {ranks}: required are step >= 0, count >= 1 and "
            "0 <= rank < ranks"
        )
    return (step * ranks + rank) * count


class Epochs:
    """An endless sequence of the numbers below `count` in shuffled epochs; each occurs once per epoch."""

    def __init__(self, count: int, seed: int):
        if seed < 0:
            raise ValueError(f"seed {seed}: it must not be negative")
        self.count, self.seed = count, seed
        self._epoch, self._order = -1, np.empty(0, np.int64)  # the newest epoch's order is cached

    def __getitem__(self, place: int) -> int:
        epoch, index = divmod(place, self.count)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.count)
        return int(self._order[index])
