"""Lines of text: `0s A panda walks`, ranges `[0s-5s: A panda walks]`, and prompts without times.

Text is literal, apart from the head in front (heads.py), the options in braces at the end and, in lines without times,
`|`. All lines are of the same kind; the first one decides whether there are times.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ...cancelling import cancellable
from ..folding import fold
from ..limits import check_segments
from ..options import make_segment
from ..syntax import RANGE_FORM, Segment, TimelineError
from ..times import looks_like_time
from .brackets import INLINE, moved, read_open, split_markers
from .heads import SegmentHead, check_glued, check_relative, find_head

_KINDS = {
    "lines": "starts with a time",
    "ranges": "is a range with start and end",
    "untimed": "has no time",
}
_JSON_LINE = re.compile(r"\s*(?:[\[\]{}(),;]+|\"(?:[^\"\\]|\\.)*\"\s*,|\"\w+\"\s*:.*|\{\s*\"\w+\"\s*:.*)\s*")
_CHOICE = re.compile(r"[\[(<][^\[\]()<>|]*\|[^\[\]()<>]*[\])>]")
_SECOND = re.compile(r"\s*([^\s{|]*)")


def read_lines(content: list[tuple[int, str]]) -> tuple[list[Segment], str, list[str]]:
    """Read numbered lines. Return the segments, the notation (lines, ranges or untimed) and hints."""
    number, line = content[0]
    head = find_head(line, number)
    if head is None or not _begins_timed(head, number, alone=len(content) == 1):
        return _read_untimed(content)
    return _read_heads(content)


def _begins_timed(head: SegmentHead, number: int, alone: bool) -> bool:
    """Return whether the first line's head starts a timeline with times: films start at 0, sentences rarely do."""
    if head.bare:
        if not head.colon:
            sentence = head.worded or (head.ranged and alone)  # `at 0 degrees`, `0-60 mph`
            if not head.zero or head.glued or (sentence and not (head.separated or head.closed)):
                return False
        raise _no_unit(head, number)
    if not (head.zero or head.certain):
        return False
    if head.glued:
        if not head.zero:
            return False
        check_glued(head, number)
    return True


def _no_unit(head: SegmentHead, number: int) -> TimelineError:
    if head.ranged:
        return TimelineError(
            f"the range '{head.number}' has no unit; write 0s-5s, or 0f-80f for frames", number, head.column
        )
    first = re.match(r"[0-9.,]+", head.number)[0]
    others = f" (or {first}f for frames, {first}c for chunks)" if first.isdigit() else ""
    return TimelineError(
        f"the time '{first}' has no unit; write {first}s{others}; if the prompt starts with a number, write a time "
        f"before it: '0s {first} ...'",
        number,
        head.column,
    )


def _read_heads(content: list[tuple[int, str]]) -> tuple[list[Segment], str, list[str]]:
    """Read lines with times; each prompt follows its time or is in the lines below it."""
    first_line, first = content[0]
    notation = "ranges" if find_head(first, first_line).end is not None else "lines"
    segments, hints = [], []
    waiting: tuple[SegmentHead, int] | None = None  # a time alone on its line, and the lines below it
    beneath: list[tuple[int, str]] = []
    for number, line in cancellable(content, 500):
        head = find_head(line, number)
        if waiting is not None and (head is None or _is_sentence(head, first=not beneath)):
            beneath.append((number, line))
            continue
        _check_kind(head, line, number, notation, first_line)
        segments += _beneath(*waiting, beneath) if waiting is not None else []
        waiting, beneath = None, []
        if head.title:
            hints.append(f"line {number}: '{head.title}' is the scene's name and not part of its prompt")
        if not head.open and not fold(head.text).text.strip():
            waiting = head, number
        else:
            segments += _read_headed(head, line, number, notation, first_line)
        check_segments(len(segments))
    if waiting is not None:
        segments += _beneath(*waiting, beneath)
    return segments, notation, hints


def _is_sentence(head: SegmentHead, first: bool) -> bool:
    """Return whether a line below a time is its prompt, although it starts like one: `3 pandas`, `80s-style neon`."""
    return (head.bare and not head.separated) or (first and (head.glued or not head.certain))


def _check_kind(head: SegmentHead | None, line: str, number: int, notation: str, first_line: int) -> None:
    """Raise TimelineError for a line of another kind than the first."""
    if head is not None:
        check_relative(head, number)
        check_glued(head, number)
        if head.bare:
            raise _no_unit(head, number)
    kind = "untimed" if head is None else "lines" if head.end is None else "ranges"
    if kind == notation:
        return
    folded = fold(line)
    column = folded.at[len(folded.text) - len(folded.text.lstrip())] + 1 if head is None else head.column
    raise TimelineError(
        f"this line {_KINDS[kind]}, but line {first_line} {_KINDS[notation]}; write all lines the same way",
        number,
        column,
    )


def _beneath(head: SegmentHead, number: int, lines: list[tuple[int, str]]) -> list[Segment]:
    """Return the segment of a time alone on its line; the lines below are its prompt."""
    if not lines:
        return [make_segment(head.text, number, head.text_at + 1, head.start, head.end, head.column)]
    text = lines[0][1] if len(lines) == 1 else " ".join(line.strip() for _, line in lines)
    _check_inside(text, lines[0][0])
    segment = make_segment(text, lines[0][0], 1, head.start, head.end, head.column)
    return [replace(segment, line=number)]


def _read_headed(head: SegmentHead, line: str, number: int, notation: str, first_line: int) -> list[Segment]:
    if head.open:
        return read_open(line, number, lambda other: _check_kind(other, line, number, notation, first_line))
    segments = []
    for at, part in split_markers(line, head):
        with moved(at):
            head = find_head(part, number)
            _check_kind(head, part, number, notation, first_line)
            segments += [replace(segment, column=segment.column + at) for segment in _read_one(head, number)]
    return segments


def read_timed_lines(text: str) -> list[Segment]:
    """Read lines `12s text`; return nothing if they are ranges or need a hint."""
    segments, notation, hints = _read_heads(list(enumerate(text.split("\n"), 1)))
    return segments if notation == "lines" and not hints else []


def read_timed(line: str, number: int) -> list[Segment]:
    """Read one line `12s text`."""
    head = find_head(line, number)
    if head is None or head.bare or head.open or head.end is not None:
        raise TimelineError(f"'{line.split()[0]}' is not a time; write '12s text'", number, 1)
    return _read_one(head, number)


def _read_one(head: SegmentHead, number: int) -> list[Segment]:
    text = head.text
    for part in text.split("|")[1:]:
        second = find_head(part, number)
        timed = second is not None and second.certain and not second.bare and second.separated
        if timed or looks_like_time(_SECOND.match(fold(part).text)[1]):
            raise TimelineError(
                f"'| {_SECOND.match(part)[1]}' looks like a second segment; write each segment on its own line",
                number,
                head.text_at + text.index("|") + 1,
            )
    _check_inside(text, number, head.text_at)
    if head.separated:
        text = _unquoted(text)
    if head.unclosed and text.rstrip().endswith(head.unclosed):
        text = text.rstrip().removesuffix(head.unclosed)
    return [make_segment(text, number, head.text_at + 1, head.start, head.end, head.column)]


def _check_inside(text: str, number: int, at: int = 0) -> None:
    """Raise TimelineError for a range inside a prompt: `A panda walks [5s: it sits]`."""
    folded = fold(text)
    if inside := INLINE.search(folded.text):
        raise TimelineError(
            f"'{inside[0]} ...]' is inside a prompt; write each range on its own line, the first from 0s: {RANGE_FORM}",
            number,
            at + folded.at[inside.start()] + 1,
        )


_QUOTED = re.compile(r"""\s*(["'])((?:(?!\1).|\1\1)*)\1\s*,?\s*(\{[^{}]*\}\s*)*""")


def _unquoted(text: str) -> str:
    """Remove the quotes around a prompt after a sign (`0s: "text"`, CSV), leaving every character in its place."""
    folded = fold(text)
    match = _QUOTED.fullmatch(folded.text)
    if match is None or not match[2].strip():
        return text
    start, end = folded.at[match.start(2)], folded.at[match.end(2)]
    quote = text[start - 1]
    after = (
        " " + text[folded.at[match.end(2)] + 1 :].replace(",", " ", 1)
        if match[3] is None
        else (" " + text[folded.at[match.end(2)] + 1 :])
    )
    return " " * start + text[start:end].replace(quote * 2, quote) + after


def _read_untimed(content: list[tuple[int, str]]) -> tuple[list[Segment], str, list[str]]:
    """Read prompts without times, one per line or several separated by bars."""
    first_line = content[0][0]
    segments, hints = [], []
    for number, line in content:
        _refuse_json(line, number)
        head = find_head(line, number) if number != first_line else None
        if head is not None and head.bare and head.colon:
            raise _no_unit(head, number)
        if head is not None and head.certain and not head.bare and not head.glued:
            _check_kind(head, line, number, "untimed", first_line)
        if (weak := find_head(line, number)) is not None and (not weak.bare or weak.ranged) and not weak.glued:
            hints.append(
                f"line {number}: '{weak.written}' is read as text, since the film starts at 0s; if it is a time, "
                "write all lines as '0s text'"
            )
        if (choice := _CHOICE.search(fold(line).text)) is not None:
            hints.append(
                f"line {number}: '{choice[0]}' is split at its bar; in lines without times, '|' separates prompts"
            )
        segments += _read_bars(line, number)
        check_segments(len(segments))
    return segments, "untimed", hints


def _refuse_json(line: str, number: int) -> None:
    """Raise TimelineError for a line of JSON in a text that does not start with JSON."""
    if _JSON_LINE.fullmatch(fold(line).text):
        raise TimelineError(
            "this line is JSON, but the text does not start with it; remove what comes before the JSON, or write "
            "each prompt on a line as '0s text'",
            number,
            1,
        )


def _read_bars(line: str, number: int) -> list[Segment]:
    segments, at = [], 0
    for part in line.split("|"):
        folded = fold(part)
        head = find_head(part, number) if at else None
        token = _SECOND.match(folded.text)[1]
        if (head is not None and head.certain and not head.bare) or (at and looks_like_time(token)):
            raise TimelineError(
                f"'{token}' is a time after '|'; write each segment with a time on its own line",
                number,
                at + folded.at[len(folded.text) - len(folded.text.lstrip())] + 1,
            )
        _check_inside(part, number, at)
        segments.append(make_segment(part, number, at + 1))
        at += len(part) + 1
    return segments
