"""New segments put into a plan: prompts that are typed while a film renders, and films that continue a take."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .hints import plan_hints
from .limits import check_frames, check_segments
from .notations.lines import read_timed
from .options import write_options
from .plan import Plan, PlannedSegment, shot_boundary
from .script import check_first
from .snap import blend_chunks, check_begins, check_blend
from .syntax import Time, TimelineError
from .syntax_hints import text_hints
from .write import exact_script, exact_segment, first_line


@dataclass(frozen=True)
class NewSegment:
    """A segment to be put into a plan.

    chunk: of the film, where it starts. text: one line, without the anchor, possibly with options in braces at its
    end. blend: in chunks.
    """

    chunk: int
    text: str
    transition: str = "recache"
    seed: int | None = None
    blend: int = 0


def with_segment(plan: Plan, new: NewSegment) -> Plan:
    """Return the plan with one more segment; it replaces one that starts at the same chunk.

    Everything is checked as if the segment stood in the timeline, so faults are TimelineErrors. Other segments keep
    their chunks; lines, hints and places of errors are those of the new plan's text (`plan_text`) in lines.
    """
    changed = with_segments(plan, [new])
    script = exact_script(changed)
    in_texts = text_hints(script.segments, script.notation, plan.anchor)
    hints = plan_hints(script.segments, plan.anchor, changed.segments, changed.frames, plan.fps, plan.chunk)
    return replace(changed, hints=(*in_texts, *hints))


def with_segments(plan: Plan, new: Sequence[NewSegment]) -> Plan:
    """As `with_segment` for several, in the order of their chunks; the plan has no hints then.

    It takes little time, however many segments there are: for films that get prompts while they are rendered. What
    lies before the first of them is taken over as it is.
    """
    if not new:
        return plan
    index = bisect_left(plan.segments, new[0].chunk, key=lambda segment: segment.start_chunk)
    first = first_line(plan)
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
    check_first(exact_segment(segments[0], segments[0].text, first))
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
