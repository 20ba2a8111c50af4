"""A plan back to a script in exact chunks: to write it as text, and to put another segment into it."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ..cancelling import cancellable
from .hints import hints_for
from .limits import MAX_SEGMENTS, check_frames, check_segments
from .options import split_options, write_options
from .order import check_first
from .parse import literal_notes, parse, read_timed, read_timed_lines
from .plan import NewSegment, Plan, PlannedSegment, shot_boundary
from .script import Script
from .snap import blend_chunks, check_begins, check_blend
from .syntax import Segment, Time, TimelineError


def plan_text(plan: Plan) -> str:
    """See Plan.to_text."""
    for form in ("lines", "parted"):
        if (text := _text_in(plan, form)) is not None:
            return text
    script = _exact_script(plan)
    starts = [segment.start_seconds for segment in plan.segments]
    ends = [Time(seconds=seconds) for seconds in (*starts[1:], plan.seconds)]
    placed = [
        replace(segment, time=Time(seconds=start), end=end)
        for segment, start, end in zip(script.segments, starts, ends, strict=True)
    ]
    scope = replace(script, segments=tuple(placed), form="scope")
    # The last is for `read_exact` alone: what no form of today can hold, an earlier version made.
    return scope.text_in("scope") or script.written("lines")


def _text_in(plan: Plan, form: str) -> str | None:
    """The plan in a form with a line for each segment; None where one of them would not read back as it is.

    Behind the first, a line `16c text` is read by itself, so each is looked at once, however often the plan changes.
    """
    lines = []
    for segment in cancellable(plan.segments, 500):
        text = _bare(plan, segment.text)
        write = _line_again if len(text) <= _REMEMBERED else _line
        line = write(form, segment.start_chunk, text, segment.transition, segment.seed, segment.blend)
        if line is None:
            return None
        lines.append(line)
    segment = plan.segments[0]
    first = Script((_segment(segment, _bare(plan, segment.text), 1),), plan.anchor, form)
    return None if first.text_in(form) is None else "\n".join([*first.written(form).split("\n"), *lines[1:]])


_REMEMBERED = 1000  # characters


def _line(form: str, chunk: int, text: str, transition: str, seed: int | None, blend: int) -> str | None:
    segment = Segment(text, Time(chunk=chunk), transition, 1, 1, None, seed, Time(chunk=blend) if blend else None)
    line = Script((segment,), None, form).written(form)
    try:
        read = read_timed_lines(line)
    except TimelineError:
        return None
    return line if [replace(found, line=1, column=1) for found in read] == [segment] else None


_line_again = lru_cache(maxsize=2 * MAX_SEGMENTS)(_line)


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


def with_segment(plan: Plan, new: NewSegment) -> Plan:
    """See Plan.with_segment."""
    changed = with_segments(plan, [new])
    script = _exact_script(changed)
    notes = literal_notes(script.segments, script.form, plan.anchor)
    hints = hints_for(script.segments, plan.anchor, changed.segments, changed.frames, plan.fps, plan.chunk)
    return replace(changed, hints=(*notes, *hints))


def with_segments(plan: Plan, new: Sequence[NewSegment]) -> Plan:
    """See Plan.with_segments. What lies before the first of them is taken over as it is."""
    if not new:
        return plan
    index = bisect_left(plan.segments, new[0].chunk, key=lambda segment: segment.start_chunk)
    first = _first_line(plan)
    before = [_numbered(segment, line) for line, segment in enumerate(plan.segments[:index], first)]
    taken = {segment.chunk for segment in new}
    after = [segment for segment in plan.segments[index:] if segment.start_chunk not in taken]
    behind = sorted([*new, *after], key=_chunk_of)
    check_segments(len(before) + len(behind))
    ends = [*map(_chunk_of, behind), plan.chunks]
    if before:
        before[-1] = _lasting(before[-1], ends[0])
    shot = next((segment for segment in reversed(before) if segment.transition == "cut"), None)
    placed = _Placed(plan, *((0, 0) if shot is None else (shot.start_chunk, shot.start_frame)))
    lines = range(first + len(before), first + len(before) + len(behind))
    segments = before + [placed.place(*part) for part in zip(behind, ends[1:], lines, strict=True)]
    check_first(_segment(segments[0], segments[0].text, first))
    for segment in segments[max(0, len(before) - 1) :]:
        # A film that was shortened may end inside its last blend, a new one may not.
        if segment.start_chunk in taken or segment is not segments[-1]:
            check_blend(segment, 1)
    return replace(plan, segments=tuple(segments), frames=placed.frames(), hints=())


def _chunk_of(segment: NewSegment | PlannedSegment) -> int:
    return segment.chunk if isinstance(segment, NewSegment) else segment.start_chunk


def _numbered(segment: PlannedSegment, line: int) -> PlannedSegment:
    """The segment in that line of the plan's text, which says its exact chunk."""
    if segment.line == line and segment.requested_seconds == segment.start_seconds:
        return segment
    return replace(segment, line=line, requested_seconds=segment.start_seconds)


def _lasting(segment: PlannedSegment, end: int) -> PlannedSegment:
    """The segment up to chunk `end`."""
    chunks = end - segment.start_chunk
    return segment if segment.chunks == chunks else replace(segment, chunks=chunks)


class _Placed:
    """Puts segments into a plan one after the other, from one that lies in the shot that begins at this chunk."""

    def __init__(self, plan: Plan, shot_chunk: int, shot_frame: int):
        self.plan, self.shot_chunk, self.shot_frame = plan, shot_chunk, shot_frame

    def place(self, segment: NewSegment | PlannedSegment, end: int, line: int) -> PlannedSegment:
        chunk = _chunk_of(segment)
        frame = self.shot_frame + shot_boundary(max(0, chunk - self.shot_chunk), self.plan.chunk)
        if isinstance(segment, NewSegment):
            segment = self._read(segment, frame, end, line)
        else:
            segment = _lasting(_numbered(segment, line), end)
            if segment.start_frame != frame:
                seconds = frame / self.plan.fps
                segment = replace(segment, start_frame=frame, start_seconds=seconds, requested_seconds=seconds)
        if segment.transition == "cut":
            self.shot_chunk, self.shot_frame = chunk, frame
        return segment

    def _read(self, new: NewSegment, frame: int, end: int, line: int) -> PlannedSegment:
        plan, text = self.plan, new.text.strip()
        if "\n" in text or "\r" in text:
            raise TimelineError("a prompt is one line of text; this one has several", line, 1)
        options = write_options(new.transition, new.seed, Time(chunk=new.blend) if new.blend else None)
        (read,) = read_timed(f"{new.chunk}c {text}{options}", line)
        check_begins(read, new.chunk, frame, plan.chunks, plan.fps)
        seconds = frame / plan.fps
        return PlannedSegment(
            read.text if plan.anchor is None else f"{plan.anchor} {read.text}",
            new.chunk,
            end - new.chunk,
            frame,
            seconds,
            seconds,
            read.transition,
            line,
            read.seed,
            blend_chunks(read.blend, plan.fps, plan.chunk),
        )

    def frames(self) -> int:
        """Of the whole film."""
        frames = self.shot_frame + shot_boundary(self.plan.chunks - self.shot_chunk, self.plan.chunk)
        check_frames(frames, self.plan.fps, self.plan.chunk)
        return frames


def _exact_script(plan: Plan) -> Script:
    """The plan as a script with a line for each segment, behind the anchor's."""
    numbered = enumerate(plan.segments, _first_line(plan))
    segments = tuple(_segment(segment, _bare(plan, segment.text), line) for line, segment in numbered)
    return Script(segments, plan.anchor, "lines")


def _segment(segment: PlannedSegment, text: str, line: int) -> Segment:
    blend = Time(chunk=segment.blend) if segment.blend else None
    return Segment(text, Time(chunk=segment.start_chunk), segment.transition, line, 1, None, segment.seed, blend)


def _first_line(plan: Plan) -> int:
    return 1 if plan.anchor is None else 2


def _bare(plan: Plan, text: str) -> str:
    return text if plan.anchor is None else text.removeprefix(f"{plan.anchor} ")
