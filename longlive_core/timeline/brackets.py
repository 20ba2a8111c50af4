"""Times in square brackets: `[0s-5s: text] [5s-10s: text {keep}]`, `[1s: text]`, `[0s] text [5s] text`."""

from __future__ import annotations

import re
from collections.abc import Callable

from .heads import Head, find_head
from .invisible import fold
from .options import make_segment
from .syntax import RANGE_FORM, Segment, TimelineError
from .times import TIME

_PAIRS = {"[": "]", "\uff3b": "\uff3d", "\u3010": "\u3011", "\u3014": "\u3015", "\u3016": "\u3017", "\u300c": "\u300d"}
_OPTIONS_BEHIND = re.compile(r"(?:\s*[{\uff5b][^{}\uff5b\uff5d\[\]]*[}\uff5d])*")
_BETWEEN = re.compile(r"\s*[,;|\uff0c\uff1b\u3001\uff5c]?\s*")
_MARKER = re.compile(rf"\[\s*{TIME}(?:\s*(?:-+>?|~|to)\s*{TIME})?\s*:?\s*\]", re.IGNORECASE)
INLINE = re.compile(rf"\[\s*{TIME}(?:\s*(?:-+>?|~|to)\s*{TIME})?\s*:(?!\s*\])", re.IGNORECASE)


def read_open(line: str, number: int, check: Callable[[Head], None]) -> list[Segment]:
    """One or more `[start-end: text]` or `[start: text]`, each with its options inside or right behind the bracket."""
    segments, at = [], 0
    while fold(line[at:]).text.strip():
        head = find_head(" " * at + line[at:], number)
        if head is None or not head.open or head.bare:
            what = "a range is written" if fold(line[at:]).text.lstrip().startswith("[") else (
                "text outside the brackets; write"
            )  # fmt: skip
            at += len(line[at:]) - len(line[at:].lstrip())
            raise TimelineError(f"{what} {RANGE_FORM}, with times such as 5s, 0:05 or 16c", number, at + 1)
        check(head)
        close = _closing(line, head.column - 1, number)
        behind = _OPTIONS_BEHIND.match(line, close + 1).end()
        # The bracket becomes a space, so that options behind it keep their columns.
        raw = line[head.text_at : close] + " " + line[close + 1 : behind]
        segments.append(make_segment(raw, number, head.text_at + 1, head.start, head.end, head.column))
        at = _BETWEEN.match(line, behind).end()
    return segments


def _closing(line: str, start: int, number: int) -> int:
    """Index of the bracket that closes line[start]; brackets inside the text count in pairs."""
    opening, depth = line[start], 0
    closing = _PAIRS.get(opening, "]")
    for index in range(start, len(line)):
        depth += (line[index] == opening) - (line[index] == closing)
        if depth == 0:
            return index
    raise TimelineError(f"'[' is not closed; write {RANGE_FORM} on one line", number, start + 1)


def split_markers(line: str, head: Head) -> list[str]:
    """`[0s] a [5s] b` as lines of one segment each, every character in its place."""
    folded = fold(line)
    if folded.text[folded.at.index(head.column - 1)] != "[":
        return [line]
    starts = [folded.at[match.start()] for match in _MARKER.finditer(folded.text)]
    starts = [start for start in starts if start >= head.text_at]
    bounds = [0, *starts, len(line)]
    return [" " * start + line[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
