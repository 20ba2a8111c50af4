"""Obedience: whether toybox films show what their prompts request, by the judge, also around a prompt switch.

Shapes: T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .judge import Reading, read, watch
from .jumps import is_smooth, largest_jump
from .world import Attributes

FIELDS = ("colour", "setting", "action")  # what a film must show at the same time
WINDOW = 12  # samples of the judge: 3 s
SETTLED = 24  # frames after a switch (1.5 s) by which the film must show the new prompt
READ = 40  # frames that the judge reads from then on


@dataclass(frozen=True)
class SwitchReading:
    """What the judge sees before and after a prompt switch."""

    before: Reading
    after: Reading
    jump: float | None  # largest distance of the subject between two frames around the switch, pixels
    smooth: bool  # no jump, and the subject never out of sight for longer than a fade


def read_windows(frames: np.ndarray) -> list[Reading]:
    """Read a film's three-second windows."""
    sights = watch(frames)
    return [read(sights[first : first + WINDOW]) for first in range(0, len(sights) - WINDOW + 1, WINDOW)]


def obeys(readings: Sequence[Reading], requested: Attributes) -> bool:
    """Return whether most windows show all of `FIELDS` at the same time."""
    return sum(shows(reading, requested) for reading in readings) * 2 > len(readings)


def shows(reading: Reading, requested: Attributes, fields: Sequence[str] = FIELDS) -> bool:
    """Return whether a reading shows the requested value of all `fields`."""
    return all(getattr(reading, field) == getattr(requested, field) for field in fields)


def judge_switch(frames: np.ndarray, at: int) -> SwitchReading:
    """Read a film whose prompt changes at frame `at`."""
    before = read(watch(frames[max(0, at - 48) : at]))
    after = read(watch(frames[at + SETTLED : at + SETTLED + READ]))
    around = watch(frames[at - 4 : at + 12], stride=1)
    return SwitchReading(before, after, largest_jump(around), is_smooth(around))
