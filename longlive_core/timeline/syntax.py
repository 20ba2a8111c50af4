"""The basic parts of a timeline: times, segments, and the error that names their place.

Lines and columns count from 1, columns in characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..config import TRANSITIONS
from ..words.visible import make_visible

__all__ = ["RANGE_FORM", "TIME_FORMS", "TRANSITIONS", "Segment", "Time", "TimelineError"]

TIME_FORMS = "12s, 12.5s, 0:12, 1:02.5, exact chunks such as 16c, or frames such as 80f"
RANGE_FORM = "[0s-5s: text]"


class TimelineError(ValueError):
    """An error in a timeline; the message says what is wrong, where, and what to write instead.

    line, column: the place in the text, or None if the error is not in the text (but in the duration, for example).
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None):
        message = make_visible(message, lines=True)  # the message quotes the timeline
        self.what, self.line, self.column = message, line, column
        super().__init__(message if line is None else f"line {line}, column {column}: {message}")

    def moved(self, columns: int) -> TimelineError:
        """Return the same error with its column moved to the right."""
        return self if self.column is None else TimelineError(self.what, self.line, self.column + columns)


@dataclass(frozen=True)
class Time:
    """A time in the film: in seconds or pixel frames, which snap to a chunk boundary later, or an exact chunk."""

    seconds: float | None = None
    chunk: int | None = None
    frame: int | None = None

    def __str__(self) -> str:
        if self.seconds is None:
            return self.brief()
        # The shortest decimal that reads back as the same float, never in exponent form.
        digits = f"{Decimal(repr(float(self.seconds))):f}"
        return f"{digits.removesuffix('.0')}s"

    def brief(self) -> str:
        """Return the time for messages, rounded to milliseconds."""
        if self.chunk is not None:
            return f"{self.chunk}c"
        if self.frame is not None:
            return f"{self.frame}f"
        return f"{self.seconds:.3f}".rstrip("0").rstrip(".") + "s"

    @property
    def is_zero(self) -> bool:
        return self._parts in ((0, None, None), (None, 0, None), (None, None, 0))

    @property
    def _parts(self) -> tuple[float | None, int | None, int | None]:
        return self.seconds, self.chunk, self.frame

    def compare(self, other: Time) -> int | None:
        """Return -1, 0 or 1 if self is before, at or after other; None if the units differ (then only a plan knows)."""
        for mine, theirs in zip(self._parts, other._parts, strict=True):
            if mine is not None and theirs is not None:
                return (mine > theirs) - (mine < theirs)
        return None

    def at_rate(self, fps: float) -> Time:
        """Return the time with frames converted to seconds."""
        return self if self.frame is None else Time(seconds=self.frame / fps)


@dataclass(frozen=True)
class Segment:
    """One prompt as written: its text without the anchor, where it starts, and the transition to it.

    time is None if prompts are split evenly; end is set only by notations that have one (ranges, Scope's export).
    line, column: where the segment starts, including its time.
    seed: of this segment's noise, or None for the film's. blend: how long the previous prompt blends into this one.
    """

    text: str
    time: Time | None
    transition: str
    line: int
    column: int
    end: Time | None = None
    seed: int | None = None
    blend: Time | None = None
