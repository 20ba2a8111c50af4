"""A plan back to a script in exact chunks: to write it as text, and to put another segment into it."""

from __future__ import annotations

import re
from dataclasses import replace

from .options import split_options, write_options
from .order import check_order
from .parse import literal_notes, parse, read_timed
from .plan import Plan
from .script import Script
from .snap import check_blend
from .syntax import Segment, Time, TimelineError


def plan_text(plan: Plan) -> str:
    """See Plan.to_text."""
    script = _exact_script(plan)
    starts = [segment.start_seconds for segment in plan.segments]
    ends = [Time(seconds=seconds) for seconds in (*starts[1:], plan.seconds)]
    placed = [
        replace(segment, time=Time(seconds=start), end=end)
        for segment, start, end in zip(script.segments, starts, ends, strict=True)
    ]
    scope = replace(script, segments=tuple(placed), form="scope")
    # The last is for `read_exact` alone: what no form of today can hold, an earlier version made.
    return script.text_in("lines", "parted") or scope.text_in("scope") or script.written("lines")


def read_exact(text: str) -> Script:
    """A plan's text as `plan_text` writes it, and as earlier versions did: prompts are taken as they stand.

    The language may learn to read more; what a stored take was made from stays what it was.
    """
    first, _, rest = text.partition("\n")
    anchor = first[2:] if first.startswith("* ") else None
    body = text if anchor is None else rest
    if body.startswith("{"):
        return parse(text, goes_on=True)
    segments = [_read_line(line, number) for number, line in enumerate(body.split("\n"), 1 if anchor is None else 2)]
    return Script(tuple(segments), anchor, "lines")


_LINE = re.compile(r"([0-9]+)c(?: |: )(.*?)(?: \{([a-z0-9=, ]+)\})?", re.DOTALL)


def _read_line(line: str, number: int) -> Segment:
    match = _LINE.fullmatch(line)
    if match is None:
        raise TimelineError(f"'{line[:20]}' is no line of a stored take", number, 1)
    _, options = split_options("" if match[3] is None else f"{{{match[3]}}}", number, 1)
    return Segment(match[2], Time(chunk=int(match[1])), options.pop("transition", "recache"), number, 1, **options)


def with_segment(plan: Plan, chunk: int, text: str, transition: str, seed: int | None, blend: int) -> Plan:
    """See Plan.with_segment."""
    script = _exact_script(plan)
    before = [segment for segment in script.segments if segment.time.chunk < chunk]
    after = [segment for segment in script.segments if segment.time.chunk > chunk]
    line = len(before) + (1 if plan.anchor is None else 2)
    text = text.strip()
    if "\n" in text or "\r" in text:
        raise TimelineError("a prompt is one line of text; this one has several", line, 1)
    options = write_options(transition, seed, Time(chunk=blend) if blend else None)
    (new,) = read_timed(f"{chunk}c {text}{options}", line)
    segments = [*before, new, *after]
    segments = tuple(replace(segment, line=line - len(before) + i) for i, segment in enumerate(segments))
    check_order(segments)
    script = replace(script, segments=segments, notes=tuple(literal_notes(segments, script.form, plan.anchor)))
    changed = script.plan(None, plan.fps, plan.chunk, chunks=plan.chunks)
    check_blend(changed.segments[len(before)], 1)  # a shortened film may end inside its last blend, a new one may not
    return changed


def _exact_script(plan: Plan) -> Script:
    """The plan as a script with a line for each segment, behind the anchor's."""
    first = 1 if plan.anchor is None else 2
    segments = [
        Segment(
            _bare(plan, segment.text),
            Time(chunk=segment.start_chunk),
            segment.transition,
            line,
            1,
            seed=segment.seed,
            blend=Time(chunk=segment.blend) if segment.blend else None,
        )
        for line, segment in enumerate(plan.segments, first)
    ]
    return Script(tuple(segments), plan.anchor, "lines")


def _bare(plan: Plan, text: str) -> str:
    return text if plan.anchor is None else text.removeprefix(f"{plan.anchor} ")
