"""How far the toybox's subject jumps around a switch.

The judge places a subject in each frame. While colours and settings fade into each other, for up to half a second, it
may see none, and the place it names then is a random one, or it may misread a single frame: the largest step between
neighbouring frames, whatever was seen in them, called 4 of 60 switches in the toybox's own films jumps. So places
without a subject are left out here, and so is a frame from which the subject comes straight back; of the same 60 none
is a jump. A jump for good is seen as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from . import world
from .judge import Sight

JUMP = 8.0  # pixels between two frames; the toybox itself stays below
FASTEST = 4 * world.HOP_HEIGHT / world.HOP_FRAMES  # pixels a frame, as a hop begins


def step(one: Sight, two: Sight) -> float:
    """Distance of the subject's places in two frames, pixels, the shorter way round where the picture wraps."""
    dx = (two.x - one.x + world.WIDTH / 2) % world.WIDTH - world.WIDTH / 2
    dy = (two.y - one.y + world.HEIGHT / 2) % world.HEIGHT - world.HEIGHT / 2
    return float(np.hypot(dx, dy))


def is_smooth(sights: Sequence[Sight]) -> bool:
    """Whether the subject is in all consecutive frames: without a jump, and never gone for longer than a fade."""
    jump = largest_step(sights)
    return jump is not None and jump <= JUMP and longest_unseen(sights) <= world.FADE


def largest_step(sights: Sequence[Sight]) -> float | None:
    """The largest step of the subject in consecutive frames, in pixels; None where it is seen in fewer than two.

    Over frames without a subject, a step is shortened by what the fastest subject covers in them.
    """
    seen = [(place, sight) for place, sight in enumerate(sights) if sight.colour is not None]
    if len(seen) < 2:
        return None
    steps = []
    for number, ((frame, one), (later, two)) in enumerate(pairwise(seen)):
        far = max(0.0, step(one, two) - FASTEST * (later - frame - 1))
        # A jump for good is as far from the frame before and to the frame after; one misread frame is not.
        before = step(seen[number - 1][1], two) if number else far
        after = step(one, seen[number + 2][1]) if number + 2 < len(seen) else far
        steps.append(min(far, before, after))
    return max(steps)


def longest_unseen(sights: Sequence[Sight]) -> int:
    """The largest number of consecutive frames without a subject."""
    longest = run = 0
    for sight in sights:
        run = 0 if sight.colour is not None else run + 1
        longest = max(longest, run)
    return longest
