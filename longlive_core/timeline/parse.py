"""Timeline text -> Script: times at the start of a line, [start-end: text], and prompts without times.

Text is literal, apart from the time in front, the options in braces at the end and, in lines without times, `|`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from .json_forms import parse_json
from .options import check_characters, literal_option_notes, make_segment
from .script import Script
from .syntax import _NUMBER, _UNITS, Segment, TimelineError, looks_like_time, parse_time

_BARE_ZERO = re.compile(r"[+-]?0+(?:[.,]0+)?")
_DASH = r"(?:-|\u2013|\u2014|to\b)"  # word processors turn hyphens into dashes
_RANGE_HEAD = re.compile(rf"\[\s*({_NUMBER}{_UNITS}?)\s*{_DASH}\s*({_NUMBER}{_UNITS}?)\s*:", re.IGNORECASE)
# Meant as a range even where it is not a good one: `[5s: text]`, `[0s-5s text]`. `[3D render] a panda` is text.
_RANGE_ATTEMPT = re.compile(rf"\[\s*{_NUMBER}\s*{_UNITS}?\s*(?::|{_DASH})", re.IGNORECASE)
_KINDS = {
    "lines": "starts with a time",
    "ranges": "is a [start-end: text] range",
    "untimed": "has no time",
}
RANGE_FORM = "[0s-5s: text]"
# Ranges that miss each other by less than a frame meet: exports round their times.
MEETING_SECONDS = 0.05


def parse(text: str, goes_on: bool = False) -> Script:
    """Read a timeline in any of its forms (docs/timeline.md). Raises TimelineError with line and column.

    goes_on: it follows a film that is there, so its first prompt, too, has something to change from.
    """
    if not isinstance(text, str):
        raise TypeError(f"a timeline is text, not {type(text).__name__}")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    anchor, lines = _take_anchor(lines)
    content = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not content:
        what = "the timeline is empty" if anchor is None else "the timeline has an anchor but no prompt"
        raise TimelineError(f"{what}; write a line such as '0s A panda walks in the snow'", 1, 1)
    first = content[0][1].lstrip()
    if first.startswith("{"):
        segments, form, notes = parse_json("\n".join(lines))
    else:
        form, notes = _form_of(content), []
        segments = [segment for number, line in content for segment in _READERS[form](line, number)]
    check_order(segments, goes_on)
    return Script(tuple(segments), anchor, form, (*notes, *literal_notes(segments, form)))


def _take_anchor(lines: list[str]) -> tuple[str | None, list[str]]:
    """The anchor's text, and the lines with the anchor's line blanked, so that line numbers stay."""
    anchor, anchor_line, rest = None, 0, list(lines)
    for number, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped.startswith("*"):
            continue
        column = len(line) - len(line.lstrip()) + 1
        body = stripped[1:]
        if body and not body[0].isspace():
            raise TimelineError("an anchor is written '* text', with a space after the star", number, column)
        if not body.strip():
            raise TimelineError("the anchor has no text; write '* subject and setting'", number, column)
        if anchor is not None:
            raise TimelineError(f"a second anchor; the first is in line {anchor_line}", number, column)
        if body.rstrip().endswith("}"):
            raise TimelineError("an anchor takes no options; put them at the end of a segment", number, column)
        check_characters(body, number, column)
        anchor, anchor_line, rest[number - 1] = body.strip(), number, ""
    return anchor, rest


def _form_of(content: list[tuple[int, str]]) -> str:
    """lines, ranges or untimed; a TimelineError where lines of different kinds meet."""
    number, line = content[0]
    token, column = _first_token(line)
    if _BARE_ZERO.fullmatch(token):
        raise TimelineError(f"the time '{token}' has no unit; write 0s", number, column)
    if re.match(r'\[\s*"', line.lstrip()):
        raise TimelineError('a JSON list of prompts is written {"prompts": ["...", "..."]}', number, column)
    form = _kind(line)
    for other_number, other in content[1:]:
        kind = _kind(other)
        if kind != form:
            raise TimelineError(
                f"this line {_KINDS[kind]}, but line {number} {_KINDS[form]}; write all lines the same way",
                other_number,
                _first_token(other)[1],
            )
    return form


def _kind(line: str) -> str:
    if _RANGE_ATTEMPT.match(line.lstrip()):
        return "ranges"
    return "lines" if looks_like_time(_first_token(line)[0]) else "untimed"


def _first_token(text: str) -> tuple[str, int]:
    """The word a text starts with, and its column from 1; a brace or a bar ends it: `5s{keep}` starts with a time."""
    start = len(text) - len(text.lstrip())
    return re.compile(r"[^\s{|]*").match(text, start)[0], start + 1


def read_timed(line: str, number: int) -> list[Segment]:
    """`12s text`: one segment a line."""
    token, column = _first_token(line)
    time = parse_time(token, number, column)
    text_at = column - 1 + len(token)
    parts = line[text_at:].split("|")
    for part in parts[1:]:
        if looks_like_time(_first_token(part)[0]):
            raise TimelineError(
                f"'| {_first_token(part)[0]}' looks like a second segment; write each segment on its own line",
                number,
                line.index("|") + 1,
            )
    return [make_segment(line[text_at:], number, text_at + 1, time, start=column)]


def literal_notes(segments: Sequence[Segment], form: str) -> list[str]:
    """What looks like syntax and is read as text."""
    bars = [
        f"line {segment.line}: '|' is read as text; it splits prompts only in lines without times"
        for segment in segments
        if form == "lines" and "|" in segment.text
    ]
    return bars + [note for segment in segments for note in literal_option_notes(segment)]


def _read_untimed(line: str, number: int) -> list[Segment]:
    segments, column = [], 1
    for part in line.split("|"):
        token, place = _first_token(part)
        if looks_like_time(token):
            raise TimelineError(
                f"'{token}' is a time after '|'; write each segment with a time on its own line",
                number,
                column + place - 1,
            )
        segments.append(make_segment(part, number, column))
        column += len(part) + 1
    return segments


def _read_ranges(line: str, number: int) -> list[Segment]:
    """One or more `[start-end: text]`, each with its options inside or right behind the bracket."""
    segments, at = [], 0
    while line[at:].strip():
        at += len(line[at:]) - len(line[at:].lstrip())
        head = _RANGE_HEAD.match(line, at)
        if head is None:
            what = "a range is written" if line[at] == "[" else "text outside the brackets; write"
            raise TimelineError(f"{what} {RANGE_FORM}, with times such as 5s, 0:05 or 16c", number, at + 1)
        close = _closing_bracket(line, at, number)
        behind = re.compile(r"(?:\s*\{[^{}\[\]]*\})*").match(line, close + 1).end()
        # The bracket becomes a space, so that options behind it keep their columns.
        raw = line[head.end() : close] + " " + line[close + 1 : behind]
        start = parse_time(head[1], number, head.start(1) + 1)
        end = parse_time(head[2], number, head.start(2) + 1)
        if end.compare(start) in (-1, 0):
            raise TimelineError(f"the range ends at {end}, but starts at {start}", number, head.start(2) + 1)
        segments.append(make_segment(raw, number, head.end() + 1, start, end, at + 1))
        at = behind
    return segments


def _closing_bracket(line: str, start: int, number: int) -> int:
    """Index of the bracket that closes line[start]; brackets inside the text count in pairs."""
    depth = 0
    for index in range(start, len(line)):
        depth += {"[": 1, "]": -1}.get(line[index], 0)
        if depth == 0:
            return index
    raise TimelineError(f"'[' is not closed; write {RANGE_FORM} on one line", number, start + 1)


def check_order(segments: Sequence[Segment], goes_on: bool = False) -> None:
    """The first segment starts at 0 and has nothing to change from, unless it goes on; times rise; ranges meet."""
    first = segments[0]
    if first.time is not None and not first.time.is_zero:
        raise TimelineError(
            f"the first segment starts at {first.time}, but the film starts at 0s (if '{first.time}' belongs to the "
            f"prompt, write a time before it)",
            first.line,
            first.column,
        )
    if not goes_on:
        check_first(first)
    for before, after in pairwise(segments):
        if after.time is not None and after.time.compare(before.time) in (-1, 0):
            how = "the same time as" if after.time.compare(before.time) == 0 else "before"
            raise TimelineError(
                f"the segment starts at {after.time}, {how} the one in line {before.line} ({before.time}); "
                "times must rise",
                after.line,
                after.column,
            )
        if before.end is not None:
            _check_meeting(before, after)


def check_first(first: Segment) -> None:
    """Raise TimelineError where a film's first prompt says how it takes over."""
    if first.transition != "recache" or first.blend is not None:
        option = first.transition if first.blend is None else f"blend={first.blend}"
        raise TimelineError(
            f"the first segment has nothing before it, so {{{option}}} has no meaning there; remove it",
            first.line,
            first.column,
        )


def _check_meeting(before: Segment, after: Segment) -> None:
    order = after.time.compare(before.end)
    if order is None:
        raise TimelineError(
            f"the range starts at {after.time}, the one in line {before.line} ends at {before.end}; write both in "
            "seconds or both in chunks",
            after.line,
            after.column,
        )
    if order == 0 or (after.time.chunk is None and abs(after.time.seconds - before.end.seconds) < MEETING_SECONDS):
        return
    what = "leaves a gap after" if order > 0 else "overlaps"
    raise TimelineError(
        f"the range starts at {after.time} and {what} the one in line {before.line}, which ends at {before.end}; "
        "each must start where the one before ends",
        after.line,
        after.column,
    )


_READERS = {"lines": read_timed, "ranges": _read_ranges, "untimed": _read_untimed}
