"""Continuity at a switch: is the largest change around it larger than the film's usual changes?

Works for pixel changes between frames and for distances between features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Frames around a switch that are measured: the VAE's decoder spreads a change over some frames before, and a jump may
# come late in the first chunk. The same as for the judge (pocket/score.py).
BEFORE, AFTER = 4, 12


@dataclass(frozen=True)
class Jump:
    """The largest step around a switch.

    Attributes:
        frame: first frame of the new segment.
        largest: the largest step whose later frame is in (frame - 4, frame + 12); None if there is none.
        usual: the median, over equally long stretches away from all switches, of their largest step; None if the film
            has no such stretch.
        ratio: largest / usual; 1 means no more visible than elsewhere. None if either is missing or usual is 0.
    """

    frame: int
    largest: float | None
    usual: float | None
    ratio: float | None


def jumps(ends: Sequence[int], steps: Sequence[float], switches: Sequence[int]) -> list[Jump]:
    """Return one `Jump` per switch.

    Args:
        ends: for each step the later of its two frames, increasing.
        steps: distance between the two frames, in any unit, at least 0.
        switches: first frames of the segments but the first.
    """
    at, far = np.asarray(ends, int), np.asarray(steps, float)
    near = [(at > switch - BEFORE) & (at < switch + AFTER) for switch in switches]
    calm = far[~np.logical_or.reduce(near)] if near else far
    return [_jump(switch, far[mask], calm) for switch, mask in zip(switches, near, strict=True)]


def _jump(switch: int, around: np.ndarray, calm: np.ndarray) -> Jump:
    if not len(around):
        return Jump(switch, None, None, None)
    # The largest of 15 steps exceeds the usual step even where nothing happens, so it is compared with the largest
    # steps of equally long stretches.
    stretches = calm[: len(calm) // len(around) * len(around)].reshape(-1, len(around))
    largest = float(around.max())
    usual = float(np.median(stretches.max(axis=1))) if len(stretches) else None
    return Jump(switch, largest, usual, largest / usual if usual else None)
