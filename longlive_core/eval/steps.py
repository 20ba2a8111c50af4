"""How far the toybox's subject jumps around a switch.

`pocket/score.judge_switch` takes the largest step between neighbouring frames as the judge places the subject. While
colours and settings fade into each other, for up to half a second, the judge may see no subject and place it at random,
or misread a single frame: of 60 switches in the toybox's own films, 4 counted as jumps. So places without a subject are
left out here, and so is a frame from which the subject comes straight back; of the same 60 none is a jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..pocket import world
from ..pocket.judge import Sight
from ..pocket.score import step

FASTEST = 4 * world.HOP_HEIGHT / world.HOP_FRAMES  # pixels a frame, as a hop begins


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
