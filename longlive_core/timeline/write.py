"""Scripts and plans as text, and the text of a stored take read back."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ..cancelling import cancellable
from .limits import MAX_SEGMENTS
from .notations.lines import read_timed_lines
from .options import split_options, write_options
from .parse import parse, read
from .plan import Plan, PlannedSegment
from .script import Script
from .syntax import Segment, Time, TimelineError

_SIGN = re.compile(r"[^\w\s\"'(\[<{]")


def script_text(script: Script) -> str:
    """Return the timeline as text that parses to an equal script, apart from lines, columns and hints.

    If a prompt cannot be written in the script's notation ("- 5s" after a time), the text is JSON, a list of objects.
    """
    notations = ("lines", "colon_lines") if script.notation == "lines" else (script.notation,)
    return _first_that_reads_back(script, notations) or _written(script, "entries")


@lru_cache(maxsize=4)  # a host requests the text of a running film several times
def plan_text(plan: Plan) -> str:
    """Return the plan as a timeline in exact chunks, with a line `16c text {keep, seed=7}` for each segment.

    `parse(plan_text(plan)).plan(None, plan.fps, plan.chunk, chunks=plan.chunks)` is this plan again, apart from
    requested_seconds, line and hints. A prompt with a time after a bar ("wide shot | 16:9"), which other notations
    allow, cannot be written in a line with a time. A film that has one is written as Scope's JSON, with the exact
    seconds of its chunks; JSON can hold any text, so every plan can be written.
    """
    for notation in ("lines", "colon_lines"):
        if (text := _text_in(plan, notation)) is not None:
            return text
    script = exact_script(plan)
    starts = [segment.start_seconds for segment in plan.segments]
    ends = [Time(seconds=seconds) for seconds in (*starts[1:], plan.seconds)]
    placed = [
        replace(segment, time=Time(seconds=start), end=end)
        for segment, start, end in zip(script.segments, starts, ends, strict=True)
    ]
    scope = replace(script, segments=tuple(placed), notation="scope")
    # The last is only for `read_exact`: a prompt of an earlier version that no notation can hold today.
    return _first_that_reads_back(scope, ("scope",)) or _written(script, "lines")


def _text_in(plan: Plan, notation: str) -> str | None:
    """Return the plan with a line for each segment, or None if a line would not read back as it is.

    After the first, each line `16c text` is checked by itself and remembered, so a changed plan checks only new lines.
    """
    lines = []
    for segment in cancellable(plan.segments, 500):
        text = _bare(plan, segment.text)
        write = _remembered_line if len(text) <= _REMEMBERED else _line
        line = write(notation, segment.start_chunk, text, segment.transition, segment.seed, segment.blend)
        if line is None:
            return None
        lines.append(line)
    segment = plan.segments[0]
    first = Script((exact_segment(segment, _bare(plan, segment.text), 1),), plan.anchor, notation)
    written = _first_that_reads_back(first, (notation,))
    return None if written is None else "\n".join([*written.split("\n"), *lines[1:]])


_REMEMBERED = 1000  # characters of the longest prompt whose line is remembered


def _line(notation: str, chunk: int, text: str, transition: str, seed: int | None, blend: int) -> str | None:
    segment = Segment(text, Time(chunk=chunk), transition, 1, 1, None, seed, Time(chunk=blend) if blend else None)
    line = _written(Script((segment,), None, notation), notation)
    try:
        segments = read_timed_lines(line)
    except TimelineError:
        return None
    return line if [replace(again, line=1, column=1) for again in segments] == [segment] else None


_remembered_line = lru_cache(maxsize=2 * MAX_SEGMENTS)(_line)


def read_exact(text: str) -> Script:
    """Read a plan's text as `plan_text` and earlier versions write it. Prompts are not interpreted.

    So a stored take keeps its prompts even if the timeline language reads more one day.
    """
    first, _, rest = text.partition("\n")
    anchor = first[2:] if first.startswith("* ") else None
    body = text if anchor is None else rest
    if body.startswith("{"):
        return parse(text, continues=True)
    segments = [_read_line(line, number) for number, line in enumerate(body.split("\n"), 1 if anchor is None else 2)]
    return Script(tuple(segments), anchor, "lines")


_LINE = re.compile(r"([0-9]+)c(?: |: )(.*?)(?: \{([a-z0-9=, ]+)\})?", re.DOTALL)


def _read_line(line: str, number: int) -> Segment:
    match = _LINE.fullmatch(line)
    if match is None:
        raise TimelineError(f"'{line[:20]}' is not a line of a stored take", number, 1)
    _, options = split_options("" if match[3] is None else f"{{{match[3]}}}", number, 1)
    return Segment(match[2], Time(chunk=int(match[1])), options.pop("transition", "recache"), number, 1, **options)


def exact_script(plan: Plan) -> Script:
    """Return the plan as a script with a line for each segment, after that of the anchor."""
    numbered = enumerate(plan.segments, first_line(plan))
    segments = tuple(exact_segment(segment, _bare(plan, segment.text), line) for line, segment in numbered)
    return Script(segments, plan.anchor, "lines")


def exact_segment(segment: PlannedSegment, text: str, line: int) -> Segment:
    """Return a planned segment as a written one, in exact chunks."""
    blend = Time(chunk=segment.blend) if segment.blend else None
    return Segment(text, Time(chunk=segment.start_chunk), segment.transition, line, 1, None, segment.seed, blend)


def first_line(plan: Plan) -> int:
    """Return the line of the first segment in the plan's text."""
    return 1 if plan.anchor is None else 2


def _bare(plan: Plan, text: str) -> str:
    return text if plan.anchor is None else text.removeprefix(f"{plan.anchor} ")


def _first_that_reads_back(script: Script, notations: Sequence[str]) -> str | None:
    """Return the text in the first of these notations that reads back as this script."""
    for notation in notations:
        if _reads_as(text := _written(script, notation), script):
            return text
    return None


def _reads_as(text: str, script: Script) -> bool:
    try:
        segments, anchor, _, _ = read(text)
    except TimelineError:
        return False
    return anchor == script.anchor and [_content(s) for s in segments] == [_content(s) for s in script.segments]


def _written(script: Script, notation: str) -> str:
    """Return the text in a notation, without checking what it reads back as."""
    anchor = [] if script.anchor is None else [f"* {script.anchor}"]
    return "\n".join(anchor + _WRITERS[notation](script.segments))


def _content(segment: Segment) -> Segment:
    return replace(segment, line=0, column=0)


def _prompt(segment: Segment) -> str:
    return segment.text + write_options(segment.transition, segment.seed, segment.blend)


def _lines(segments: tuple[Segment, ...]) -> list[str]:
    """Write `5s text`, and `5s: - text` if the prompt starts with a sign, which would be read as a separator."""
    return [f"{segment.time}{':' if _SIGN.match(segment.text) else ''} {_prompt(segment)}" for segment in segments]


def _colon_lines(segments: tuple[Segment, ...]) -> list[str]:
    """Write `5s: text`: after a colon, a dash too belongs to the prompt."""
    return [f"{segment.time}: {_prompt(segment)}" for segment in segments]


def _ranges(segments: tuple[Segment, ...]) -> list[str]:
    return [f"[{segment.time}-{segment.end}: {_prompt(segment)}]" for segment in segments]


def _untimed(segments: tuple[Segment, ...]) -> list[str]:
    return [" | ".join(_prompt(segment) for segment in segments)]


def _json(segments: tuple[Segment, ...]) -> list[str]:
    return [json.dumps({"prompts": [_prompt(segment) for segment in segments]}, ensure_ascii=False)]


def _scope(segments: tuple[Segment, ...]) -> list[str]:
    entries = [
        {
            "startTime": segment.time.seconds,
            "endTime": segment.end.seconds,
            "prompts": [{"text": _prompt(segment), "weight": 100}],
        }
        for segment in segments
    ]
    return [json.dumps({"prompts": entries}, ensure_ascii=False)]


def _entries(segments: tuple[Segment, ...]) -> list[str]:
    entries = []
    for segment in segments:
        times = {"time": segment.time, "end": segment.end}
        entries.append(
            {name: str(time) for name, time in times.items() if time is not None} | {"text": _prompt(segment)}
        )
    return [json.dumps({"prompts": entries}, ensure_ascii=False)]


_WRITERS = {
    "lines": _lines,
    "colon_lines": _colon_lines,
    "ranges": _ranges,
    "untimed": _untimed,
    "json": _json,
    "entries": _entries,
    "scope": _scope,
}
