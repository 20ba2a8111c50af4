"""Branch points: where a take is branched, given as a time, a segment or a number of chunks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..timeline import parse_time
from ..words.wording import count, shorten
from .errors import TakeError
from .manifest import Manifest

FORMS = "a time such as 12s or 0:12, a segment such as 'segment 2', or chunks such as 16c"
_SEGMENT = re.compile(r"(?:segment|prompt)\s*#?\s*([0-9]{1,9})", re.IGNORECASE)
_CHUNKS = re.compile(r"([0-9]{1,9})\s*(?:c|chunks?)?", re.IGNORECASE)


@dataclass(frozen=True)
class BranchPoint:
    """The boundary after `chunks` chunks of a take. seconds: its time. requested: the requested time, or None."""

    chunks: int
    seconds: float
    requested: float | None = None


def check_rendered(take: Manifest, chunks: int) -> None:
    """Raise TakeError if nothing of a take is rendered. chunks: the number of rendered chunks from its start."""
    if chunks < 1:
        raise TakeError(f"take {take.id} has no chunk rendered yet: queue its timeline, or choose another take")


def check_branch_point(text: str) -> None:
    """Raise ValueError for a text that names no branch point in any take."""
    _read(text)


def find_branch_point(take: Manifest, text: str, chunks: int | None = None) -> BranchPoint:
    """Return the chunk boundary that a text names.

    Args:
        text: a time (`12s`, `0:12`), which snaps to the nearest boundary and keeps at least one chunk; `segment 2`, the
            boundary at which that prompt begins; `16c`, `16 chunks` or a plain `16`.
        chunks: number of rendered chunks of the take; None: all.

    Raises:
        ValueError: it names no branch point, or one outside the take. TakeError: nothing of the take is rendered.
    """
    rendered = len(take.keys) if chunks is None else min(chunks, len(take.keys))
    check_rendered(take, rendered)
    kind, value = _read(text)
    if kind == "segment":
        return _segment(take, int(value), rendered)
    if kind == "chunks":
        return _chunks(take, int(value), rendered, text)
    return _seconds(take, value, rendered, text)


def _read(text: str) -> tuple[str, float]:
    text = text.strip()
    if match := _SEGMENT.fullmatch(text):
        return "segment", int(match[1])
    if match := _CHUNKS.fullmatch(text):
        return "chunks", int(match[1])
    try:
        time = parse_time(text.replace(" ", ""), 1, 1)
    except ValueError:
        raise ValueError(f"{shorten(text, 40)!r} does not name a point in a take: give {FORMS}") from None
    return ("seconds", time.seconds) if time.chunk is None else ("chunks", time.chunk)


def _segment(take: Manifest, number: int, rendered: int) -> BranchPoint:
    starts = [segment["chunk"] for segment in take.segments]
    if not 2 <= number <= len(starts):
        allowed = "2" if len(starts) == 2 else f"2 to {len(starts)}"
        have = "the take has one prompt: give a time or chunks" if len(starts) < 2 else f"allowed are {allowed}"
        raise ValueError(f"segment {number}: what comes before it is kept, so {have}")
    if starts[number - 1] > rendered:
        raise ValueError(
            f"segment {number} begins after chunk {starts[number - 1]}; the take has {count(rendered, 'chunk')} so far"
        )
    return BranchPoint(starts[number - 1], take.seconds(starts[number - 1]))


def _chunks(take: Manifest, number: int, rendered: int, text: str) -> BranchPoint:
    if not 1 <= number <= rendered:
        raise ValueError(f"{text.strip()!r}: the take has {count(rendered, 'chunk')}, so allowed are 1 to {rendered}")
    return BranchPoint(number, take.seconds(number))


def _seconds(take: Manifest, seconds: float, rendered: int, text: str) -> BranchPoint:
    length = take.seconds(rendered)
    if not 0 < seconds <= length + 0.005:  # with the precision of the length shown
        raise ValueError(f"{text.strip()!r}: the take lasts {length:.2f} s; give a time after its start, up to that")
    chunk = min(max(1, take.plan().chunk_at(seconds)), rendered)
    return BranchPoint(chunk, take.seconds(chunk), seconds)
