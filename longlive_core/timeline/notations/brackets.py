"""Ranges and times in square brackets: `[0s-5s: text] [5s-10s: text {keep}]`, `[1s: text]`, `[0s] text [5s] text`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from ..folding import fold
from ..options import make_segment
from ..syntax import RANGE_FORM, Segment, TimelineError
from ..times import TIME
from .heads import SegmentHead, find_head

_PAIRS = {"[": "]", "\uff3b": "\uff3d", "\u3010": "\u3011", "\u3014": "\u3015", "\u3016": "\u3017", "\u300c": "\u300d"}
_OPTIONS_AFTER = re.compile(r"(?:\s*[{\uff5b][^{}\uff5b\uff5d\[\]]*[}\uff5d])*")
_BETWEEN = re.compile(r"\s*[,;|\uff0c\uff1b\u3001\uff5c]?\s*")
_MARKER = re.compile(rf"\[\s*{TIME}(?:\s*(?:-+>?|~|to)\s*{TIME})?\s*:?\s*\]", re.IGNORECASE)
INLINE = re.compile(rf"\[\s*{TIME}(?:\s*(?:-+>?|~|to)\s*{TIME})?\s*:(?!\s*\])", re.IGNORECASE)


def read_open(line: str, number: int, check: Callable[[SegmentHead], None]) -> list[Segment]:
    """Read one or more `[start-end: text]` or `[start: text]`, each with its options inside or after the bracket."""
    segments, at = [], 0
    while (at := _next_seen(line, at)) < len(line):
        with moved(at):
            # A range's head is short: do not copy a line of many ranges for each of them.
            head = _open_head(line[at : at + _HEAD], number, check)
        segment, at = _read_range(line, at, head, number)
        segments.append(segment)
    return segments


_HEAD = 1000  # characters


def _next_seen(line: str, at: int) -> int:
    """Return the index of the next visible character."""
    while at < len(line) and not fold(line[at]).text.strip():
        at += 1
    return at


@contextlib.contextmanager
def moved(columns: int) -> Iterator[None]:
    """Add `columns` to the column of every TimelineError raised inside."""
    try:
        yield
    except TimelineError as error:
        raise error.moved(columns) from error.__cause__


def _open_head(line: str, number: int, check: Callable[[SegmentHead], None]) -> SegmentHead:
    """Return the head of the range at the start of a line."""
    head = find_head(line, number)
    if head is None or not head.open or head.bare:
        what = "a range is written" if fold(line).text.lstrip().startswith("[") else "text outside the brackets; write"
        column = len(line) - len(line.lstrip()) + 1
        raise TimelineError(f"{what} {RANGE_FORM}, with times such as 5s, 0:05 or 16c", number, column)
    check(head)
    return head


def _read_range(line: str, at: int, head: SegmentHead, number: int) -> tuple[Segment, int]:
    """Return the segment of the range whose head is at line[at], and the index where the next range may start."""
    close = _closing(line, at + head.column - 1, number)
    after = _OPTIONS_AFTER.match(line, close + 1).end()
    # The bracket becomes a space, so that options after it keep their columns.
    raw = line[at + head.text_at : close] + " " + line[close + 1 : after]
    place = at + head.text_at + 1, head.start, head.end, at + head.column
    return make_segment(raw, number, *place), _BETWEEN.match(line, after).end()


def _closing(line: str, start: int, number: int) -> int:
    """Return the index of the bracket that closes line[start]; brackets inside the text come in pairs."""
    opening, depth = line[start], 0
    closing = _PAIRS.get(opening, "]")
    for index in range(start, len(line)):
        depth += (line[index] == opening) - (line[index] == closing)
        if depth == 0:
            return index
    raise TimelineError(f"'[' is not closed; write {RANGE_FORM} on one line", number, start + 1)


def split_markers(line: str, head: SegmentHead) -> list[tuple[int, str]]:
    """Split `[0s] a [5s] b` into one text per segment, each with its index in the line."""
    folded = fold(line)
    if folded.text[folded.at.index(head.column - 1)] != "[":
        return [(0, line)]
    starts = [folded.at[match.start()] for match in _MARKER.finditer(folded.text)]
    starts = [0, *(start for start in starts if start >= head.text_at)]
    return [(start, line[start:end]) for start, end in zip(starts, [*starts[1:], len(line)], strict=True)]
