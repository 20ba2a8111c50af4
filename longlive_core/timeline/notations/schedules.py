"""Schedules: an object whose keys are times, `{"0": "...", "16": "..."}` (Deforum, FizzNodes, AnimateDiff).

A number without a unit is a frame, as in every tool that has such schedules.
"""

from __future__ import annotations

import re
from typing import Any

from ..folding import fold, one_line
from ..options import make_segment
from ..syntax import Segment, Time, TimelineError
from .heads import SegmentHead, find_head
from .json_values import kind_of, place_of

_HINT = (
    "numbers in front of prompts are read as frames, as Deforum, FizzNodes and AnimateDiff do, at the film's frames "
    'per second; for seconds write "5s" instead of "5"'
)


def is_schedule(data: dict) -> bool:
    """Return whether a key of an object starts with a number."""
    return any(re.match(r"\s*[\[(]?\s*[0-9.]", fold(key).text) for key in data)


def read_schedule(data: dict, place: tuple[int, int] = (1, 1)) -> tuple[list[Segment], str, list[str]]:
    """Return the segments, their notation and hints. place: line and column of the whole schedule, for messages."""
    if not data:
        raise TimelineError("the timeline is empty: the schedule has no entry", *place)
    heads = {key: _head(key) for key in data}
    bare = [key for key, head in heads.items() if head.bare]
    united = [key for key, head in heads.items() if not head.bare]
    if united and any(not heads[key].zero for key in bare):
        raise TimelineError(
            f'the time "{bare[-1]}" has no unit, but "{united[0]}" has one; write both the same way',
            bare[-1].line,
            bare[-1].column,
        )
    read = [(_start(key, heads[key], bool(united)), heads[key].end, key) for key in data]
    if len({(start.seconds is None, start.chunk is None) for start, _, _ in read}) == 1:
        read.sort(key=lambda item: next(v for v in (item[0].seconds, item[0].chunk, item[0].frame) if v is not None))
    segments = [_segment(data[key], key, start, end) for start, end, key in read]
    return segments, "entries", [_HINT] if not united else []


def _head(key: str) -> SegmentHead:
    head = find_head(key, key.line)
    if head is None or head.open or head.text.strip() or (head.bare and head.ranged):
        raise TimelineError(
            f'"{key}" is not a time; the keys of a schedule are frames such as "16", or times such as "5s" and "0s-5s"',
            key.line,
            key.column,
        )
    return head


def _start(key: str, head: SegmentHead, united: bool) -> Time:
    if not head.bare:
        return head.start
    number = fold(key).text.strip()
    if united:
        return Time(seconds=0.0)
    if not number.isdigit() or len(number) > 12:
        what = f'"{key}" is not a frame number; frames are whole numbers such as "16"'
        raise TimelineError(what, key.line, key.column)
    return Time(frame=int(number))


def _segment(value: Any, key: str, start: Time, end: Time | None) -> Segment:
    text = value
    if isinstance(value, dict):
        text = next((value[name] for name in ("prompt", "text", "caption") if isinstance(value.get(name), str)), None)
    if not isinstance(text, str):
        what = kind_of(value) if text is value else 'an object without "prompt"'
        raise TimelineError(f'"{key}" is {what}; it must be the text of a prompt', *place_of({key: 0}))
    return make_segment(one_line(text), text.line, text.column, start, end)
