"""Measuring how far the toybox's subject jumps between frames, and how long it is out of sight.

The judge places a subject in every frame. While colours and settings fade into each other, for up to half a second, it
may see no subject and return a random place, or it may misread a single frame. The largest distance between any
neighbouring frames therefore reported jumps in 4 of 60 switches of the toybox's own films. So frames without a subject
are skipped here, and so is a single frame from which the subject returns at once: of the same 60 switches, none is then
reported as a jump. A subject that jumps and stays there is reported as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from . import HEIGHT, WIDTH, motion, world
from .judge import Sight

LARGEST_SMOOTH = 8.0  # pixels between two frames; the toybox itself stays below
FASTEST = 4 * motion.HOP_HEIGHT / motion.HOP_FRAMES  # pixels per frame, at the start of a hop


def distance(one: Sight, two: Sight) -> float:
    """Return the distance between the subject's places in two frames in pixels, the shorter way round the picture."""
    dx = (two.x - one.x + WIDTH / 2) % WIDTH - WIDTH / 2
    dy = (two.y - one.y + HEIGHT / 2) % HEIGHT - HEIGHT / 2
    return float(np.hypot(dx, dy))


def is_smooth(sights: Sequence[Sight]) -> bool:
    """Return whether the subject never jumps in consecutive frames and is never out of sight longer than a fade."""
    jump = largest_jump(sights)
    return jump is not None and jump <= LARGEST_SMOOTH and longest_unseen(sights) <= world.FADE


def largest_jump(sights: Sequence[Sight]) -> float | None:
    """Return the subject's largest jump in consecutive frames, in pixels; None if fewer than two frames show it.

    Across frames without a subject, the distance that the fastest subject covers in them is subtracted.
    """
    seen = [(number, sight) for number, sight in enumerate(sights) if sight.colour is not None]
    if len(seen) < 2:
        return None
    jumps = []
    for number, ((frame, one), (later, two)) in enumerate(pairwise(seen)):
        far = max(0.0, distance(one, two) - FASTEST * (later - frame - 1))
        # A lasting jump is as far from the frame before and to the frame after; a single misread frame is not.
        before = distance(seen[number - 1][1], two) if number else far
        after = distance(one, seen[number + 2][1]) if number + 2 < len(seen) else far
        jumps.append(min(far, before, after))
    return max(jumps)


def longest_unseen(sights: Sequence[Sight]) -> int:
    """Return the largest number of consecutive frames without a subject."""
    longest = run = 0
    for sight in sights:
        run = 0 if sight.colour is not None else run + 1
        longest = max(longest, run)
    return longest
