"""Continuity at a switch: is the largest change around it larger than what the film does anyway?

The same for changes between frames in pixels and for distances between features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Frames around a switch that are looked at: the VAE's decoder spreads a change over some frames before, and what jumps
# may do so late in the first chunk. The same as for the judge (pocket/score.py).
BEFORE, AFTER = 4, 12


@dataclass(frozen=True)
class Jump:
    """The largest step around a switch.

    Attributes:
        frame: the first of the new segment.
        largest: the largest step whose later frame is in (frame - 4, frame + 12); None where there is none.
        usual: the median, over equally long stretches away from all switches, of their largest step; None where the
            film has none.
        ratio: largest / usual; 1 means no more visible than anywhere. None where either is missing or usual is 0.
    """

    frame: int
    largest: float | None
    usual: float | None
    ratio: float | None


def jumps(ends: Sequence[int], steps: Sequence[float], switches: Sequence[int]) -> list[Jump]:
    """One `Jump` for each switch.

    Args:
        ends: for each step the later one of its two frames, rising.
        steps: how far apart the two are, in any unit, at least 0.
        switches: first frames of the segments but the first.
    """
    at, far = np.asarray(ends, int), np.asarray(steps, float)
    near = [(at > switch - BEFORE) & (at < switch + AFTER) for switch in switches]
    calm = far[~np.logical_or.reduce(near)] if near else far
    return [_jump(switch, far[mask], calm) for switch, mask in zip(switches, near, strict=True)]


def _jump(switch: int, around: np.ndarray, calm: np.ndarray) -> Jump:
    if not len(around):
        return Jump(switch, None, None, None)
    # A largest of 15 steps is larger than the usual step, also where nothing happens; so it is compared with largest
    # ones of as many.
    stretches = calm[: len(calm) // len(around) * len(around)].reshape(-1, len(around))
    largest = float(around.max())
    usual = float(np.median(stretches.max(axis=1))) if len(stretches) else None
    return Jump(switch, largest, usual, largest / usual if usual else None)
