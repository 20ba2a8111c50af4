"""New segments in an existing plan: for prompts typed while a film renders, and for films that extend a take."""

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
    """A segment to add to a plan.

    chunk: of the film, where it starts. text: one line, without the anchor, possibly with options in braces at its
    end. blend: in chunks.
    """

    chunk: int
    text: str
    transition: str = "recache"
    seed: int | None = None
    blend: int = 0


def with_segment(plan: Plan, new: NewSegment) -> Plan:
    """Return the plan with one more segment, which replaces one that starts at the same chunk.

    Everything is checked as if the segment were written in the timeline; errors are TimelineErrors. Other segments
    keep their chunks. Lines, hints and places of errors are those of the new plan's text (`plan_text`), in lines.
    """
    changed = with_segments(plan, [new])
    script = exact_script(changed)
    in_texts = text_hints(script.segments, script.notation, plan.anchor)
    hints = plan_hints(script.segments, plan.anchor, changed.segments, changed.frames, plan.fps, plan.chunk)
    return replace(changed, hints=(*in_texts, *hints))


def with_segments(plan: Plan, new: Sequence[NewSegment]) -> Plan:
    """Return the plan with several new segments, sorted by chunk; see `with_segment`. It has no hints.

    This is fast for any number of segments, so prompts can be added while a film renders. Segments before the first
    new one are kept as they are.
    """
    if not new:
        return plan
    index = bisect_left(plan.segments, new[0].chunk, key=lambda segment: segment.start_chunk)
    first = first_line(plan)
    before = [_numbered(segment, line) for line, segment in enumerate(plan.segments[:index], first)]
    new_chunks = {segment.chunk for segment in new}
    after = [segment for segment in plan.segments[index:] if segment.start_chunk not in new_chunks]
    following = sorted([*new, *after], key=_chunk_of)
    check_segments(len(before) + len(following))
    ends = [*map(_chunk_of, following), plan.chunks]
    if before:
        before[-1] = _lasting(before[-1], ends[0])
    shot = next((segment for segment in reversed(before) if segment.transition == "cut"), None)
    placer = _Placer(plan, *((0, 0) if shot is None else (shot.start_chunk, shot.start_frame)))
    lines = range(first + len(before), first + len(before) + len(following))
    segments = before + [placer.place(*part) for part in zip(following, ends[1:], lines, strict=True)]
    check_first(exact_segment(segments[0], segments[0].text, first))
    for segment in segments[max(0, len(before) - 1) :]:
        # A shortened film may end inside its last blend; a new segment may not.
        if segment.start_chunk in new_chunks or segment is not segments[-1]:
            check_blend(segment, 1)
    return replace(plan, segments=tuple(segments), frames=placer.frames(), hints=())


def _chunk_of(segment: NewSegment | PlannedSegment) -> int:
    return segment.chunk if isinstance(segment, NewSegment) else segment.start_chunk


def _numbered(segment: PlannedSegment, line: int) -> PlannedSegment:
    """Return the segment with that line of the plan's text, in which its time is an exact chunk."""
    if segment.line == line and segment.requested_seconds == segment.start_seconds:
        return segment
    return replace(segment, line=line, requested_seconds=segment.start_seconds)


def _lasting(segment: PlannedSegment, end: int) -> PlannedSegment:
    """Return the segment with its end at chunk `end`."""
    chunks = end - segment.start_chunk
    return segment if segment.chunks == chunks else replace(segment, chunks=chunks)


class _Placer:
    """Places segments in a plan one after the other; the first is in the shot that starts at shot_chunk."""

    def __init__(self, plan: Plan, shot_chunk: int, shot_frame: int):
        self.plan, self.shot_chunk, self.shot_frame = plan, shot_chunk, shot_frame

    def place(self, segment: NewSegment | PlannedSegment, end: int, line: int) -> PlannedSegment:
        """Return the segment as planned, up to chunk `end`; a new one is read and checked."""
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
        """Return the frames of the whole film."""
        frames = self.shot_frame + shot_boundary(self.plan.chunks - self.shot_chunk, self.plan.chunk)
        check_frames(frames, self.plan.fps, self.plan.chunk)
        return frames
