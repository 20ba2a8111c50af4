"""The smallest parts of a timeline: times, segments, and the error that points at them.

Lines and columns count from 1, columns in characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

TRANSITIONS = ("recache", "keep", "cut")
TIME_FORMS = "12s, 12.5s, 0:12, 1:02.5, or exact chunks such as 16c"

_UNITS = r"(?:s|secs?|seconds?|c|chunks?|ms|m|mins?|minutes?|h|hours?|f|frames?)"
_NUMBER = r"[+-]?[0-9.][0-9.,:]*"
# Number with a unit (12s, -5s, 1m30s), or with a colon (0:12, 10:). A bare number is text: "3 pandas walk".
_TIME_LIKE = re.compile(rf"{_NUMBER}{_UNITS}(?:[0-9.]+{_UNITS})?[:,]?|[+-]?[0-9.,]*[0-9]:[0-9.,:]*[,]?", re.IGNORECASE)
_SECONDS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)s", re.IGNORECASE)
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-9]+):([0-9]{2}(?:\.[0-9]+)?)")
_CHUNKS = re.compile(r"([0-9]+)c", re.IGNORECASE)
# The digits beyond these are no film; without a limit Python spends its time on million-digit integers.
_LONGEST_TIME = 32


class TimelineError(ValueError):
    """Something in the timeline is wrong; the message says what, where, and what to write instead.

    line, column: 1-based place in the text, or None when the fault is not in the text (such as the duration).
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None):
        self.line, self.column = line, column
        super().__init__(message if line is None else f"line {line}, column {column}: {message}")


@dataclass(frozen=True)
class Time:
    """A point in the film: either seconds, snapped to a chunk boundary later, or an exact chunk of the film."""

    seconds: float | None = None
    chunk: int | None = None

    def __str__(self) -> str:
        if self.chunk is not None:
            return f"{self.chunk}c"
        # Shortest decimal that reads back as the same float, never in exponent form.
        digits = f"{Decimal(repr(float(self.seconds))):f}"
        return f"{digits.removesuffix('.0')}s"

    def brief(self) -> str:
        """For messages: at most milliseconds."""
        if self.chunk is not None:
            return f"{self.chunk}c"
        return f"{self.seconds:.3f}".rstrip("0").rstrip(".") + "s"

    @property
    def is_zero(self) -> bool:
        return self.chunk == 0 if self.chunk is not None else self.seconds == 0

    def compare(self, other: Time) -> int | None:
        """-1, 0 or 1 as self is before, at or after other; None between seconds and chunks (only a plan can tell)."""
        if (self.chunk is None) != (other.chunk is None):
            return None
        mine, theirs = (self.seconds, other.seconds) if self.chunk is None else (self.chunk, other.chunk)
        return (mine > theirs) - (mine < theirs)


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


def looks_like_time(token: str) -> bool:
    """Whether a word at the start of a line is meant as a time, well written or not."""
    return _TIME_LIKE.fullmatch(token) is not None


def _is_time(token: str) -> bool:
    return any(form.fullmatch(token) for form in (_CHUNKS, _SECONDS, _CLOCK))


def parse_time(token: str, line: int, column: int) -> Time:
    """Read `12s`, `12.5s`, `0:12`, `1:02.5`, `1:00:00` or `16c`; anything else is a TimelineError at that place."""
    if len(token) > _LONGEST_TIME:
        raise TimelineError(f"the time '{token[:12]}...' has too many digits", line, column)
    if match := _CHUNKS.fullmatch(token):
        return Time(chunk=int(match[1]))
    if match := _SECONDS.fullmatch(token):
        return Time(seconds=float(match[1]))
    if (match := _CLOCK.fullmatch(token)) and float(match[3]) < 60 and (match[1] is None or int(match[2]) < 60):
        return Time(seconds=int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3]))
    if token.startswith("-"):
        raise TimelineError(f"the time '{token}' is negative; the film starts at 0s", line, column)
    if token.endswith((":", ",")) and _is_time(token[:-1]):
        raise TimelineError(f"write '{token[:-1]}' without the '{token[-1]}' behind it", line, column)
    raise TimelineError(
        f"'{token}' is not a time; write {TIME_FORMS} (if it belongs to the prompt, write a time before it: "
        f"'0s {token} ...')",
        line,
        column,
    )
