"""Whether films of the toybox show what their prompts ask for, by the judge's readings; and how a switch is judged.

Shapes: T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .judge import Reading, read, watch
from .steps import is_smooth, largest_step
from .world import Attributes

FIELDS = ("colour", "setting", "action")  # what a film is asked for at once
WINDOW = 12  # samples of the judge: 3 s
SETTLED = 24  # frames after a switch (1.5 s) from which on the new prompt must show
SHOWN = 40  # frames that are read then


@dataclass(frozen=True)
class Switch:
    """What the judge saw of a change of prompt."""

    before: Reading
    after: Reading
    jump: float | None  # largest step of the subject between two frames around the boundary, pixels
    smooth: bool  # no jump, and the subject never gone for longer than a fade


def windows(frames: np.ndarray) -> list[Reading]:
    """Readings of a film's three-second windows."""
    sights = watch(frames)
    return [read(sights[first : first + WINDOW]) for first in range(0, len(sights) - WINDOW + 1, WINDOW)]


def obeys(readings: Sequence[Reading], asked: Attributes) -> bool:
    """Whether most windows show all of `FIELDS` at once."""
    return sum(shows(reading, asked) for reading in readings) * 2 > len(readings)


def shows(reading: Reading, asked: Attributes, fields: Sequence[str] = FIELDS) -> bool:
    return all(getattr(reading, field) == getattr(asked, field) for field in fields)


def judge_switch(frames: np.ndarray, at: int) -> Switch:
    """Read a film whose prompt changes at frame `at`."""
    before = read(watch(frames[max(0, at - 48) : at]))
    after = read(watch(frames[at + SETTLED : at + SETTLED + SHOWN]))
    around = watch(frames[at - 4 : at + 12], stride=1)
    return Switch(before, after, largest_step(around), is_smooth(around))
