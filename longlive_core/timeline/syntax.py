"""The smallest parts of a timeline: times, segments, and the error that points at them.

Lines and columns count from 1, columns in characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..words.visible import make_visible

TRANSITIONS = ("recache", "keep", "cut")
TIME_FORMS = "12s, 12.5s, 0:12, 1:02.5, exact chunks such as 16c, or frames such as 80f"
RANGE_FORM = "[0s-5s: text]"


class TimelineError(ValueError):
    """Something in the timeline is wrong; the message says what, where, and what to write instead.

    line, column: 1-based place in the text, or None when the fault is not in the text (such as the duration).
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None):
        message = make_visible(message, lines=True)  # it quotes the text
        self.what, self.line, self.column = message, line, column
        super().__init__(message if line is None else f"line {line}, column {column}: {message}")

    def moved(self, columns: int) -> TimelineError:
        """The same in a text that begins so many columns later in its line."""
        return self if self.column is None else TimelineError(self.what, self.line, self.column + columns)


@dataclass(frozen=True)
class Time:
    """A point in the film: seconds or a pixel frame, snapped to a chunk boundary later, or an exact chunk."""

    seconds: float | None = None
    chunk: int | None = None
    frame: int | None = None

    def __str__(self) -> str:
        if self.seconds is None:
            return self.brief()
        # Shortest decimal that reads back as the same float, never in exponent form.
        digits = f"{Decimal(repr(float(self.seconds))):f}"
        return f"{digits.removesuffix('.0')}s"

    def brief(self) -> str:
        """For messages: at most milliseconds."""
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
        """-1, 0 or 1 as self is before, at or after other; None where their units differ (only a plan can tell)."""
        for mine, theirs in zip(self._parts, other._parts, strict=True):
            if mine is not None and theirs is not None:
                return (mine > theirs) - (mine < theirs)
        return None

    def at_rate(self, fps: float) -> Time:
        """Frames as seconds; others as they are."""
        return self if self.frame is None else Time(seconds=self.frame / fps)


@dataclass(frozen=True)
class Segment:
    """One prompt as written: its text without the anchor, where it starts, and how the film gets there.

    time is None where prompts are split evenly; end is set only by forms that give one (ranges, Scope's export).
    line, column: where the segment begins, with its time if it has one.
    seed: of this segment's noise, None for the film's. blend: how long the prompt before turns into this one.
    """

    text: str
    time: Time | None
    transition: str
    line: int
    column: int
    end: Time | None = None
    seed: int | None = None
    blend: Time | None = None
