"""A plan back to a script in exact chunks: to write it as text, and to put another segment into it."""

from __future__ import annotations

from dataclasses import replace

from .options import write_options
from .parse import check_order, literal_notes, read_timed
from .plan import Plan
from .script import Script
from .snap import check_blend
from .syntax import Segment, Time, TimelineError


def plan_text(plan: Plan) -> str:
    """See Plan.to_text."""
    script = _exact_script(plan)
    try:
        for segment in plan.segments:
            read_timed(f"0c {_bare(plan, segment.text)}", segment.line)
    except TimelineError:
        starts = [segment.start_seconds for segment in plan.segments]
        ends = [Time(seconds=seconds) for seconds in (*starts[1:], plan.seconds)]
        segments = [
            replace(segment, time=Time(seconds=start), end=end)
            for segment, start, end in zip(script.segments, starts, ends, strict=True)
        ]
        script = replace(script, segments=tuple(segments), form="scope")
    return script.to_text()


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
    script = replace(script, segments=segments, notes=tuple(literal_notes(segments, script.form)))
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
