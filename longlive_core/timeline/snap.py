"""Segments -> Plan: times snap to chunks and frames. The clock is described in plan.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..words.wording import count
from .hints import plan_hints
from .limits import check_chunks, check_fps, check_frames, check_seconds, check_segments
from .plan import NOISE, Plan, PlannedSegment, nearest_chunk, shot_boundary
from .syntax import Segment, Time, TimelineError

DEFAULT_SEGMENT_SECONDS = 10.0


@dataclass(frozen=True)
class _Spot:
    """Where a segment starts: chunk and pixel frame of the film, and those where its shot starts."""

    chunk: int
    frame: int
    shot_chunk: int
    shot_frame: int


def make_plan(
    segments: tuple[Segment, ...],
    anchor: str | None,
    duration: float | None,
    fps: float,
    chunk: int,
    chunks: int | None,
) -> Plan:
    """Return the plan of these segments; see Script.plan."""
    _check_clock(duration, fps, chunk, chunks)
    check_segments(len(segments))
    segments = tuple(_at_rate(segment, fps) for segment in segments)
    starts = _starts(segments, duration, chunks)
    if duration is not None:
        _check_before(segments, starts, duration)
    spots = _place(segments, starts, fps, chunk)
    exact = chunks is not None
    if not exact:
        chunks = _chunks_of(segments, spots[-1], duration, fps, chunk)
        check_chunks(chunks, fps)
    frames = spots[-1].shot_frame + shot_boundary(max(0, chunks - spots[-1].shot_chunk), chunk)
    check_frames(frames, fps, chunk)
    _check_inside(segments[-1], spots[-1], chunks, frames, fps)
    planned = tuple(
        PlannedSegment(
            text=segment.text if anchor is None else f"{anchor} {segment.text}",
            start_chunk=spot.chunk,
            chunks=(spots[index + 1].chunk if index + 1 < len(spots) else chunks) - spot.chunk,
            start_frame=spot.frame,
            start_seconds=spot.frame / fps,
            requested_seconds=spot.frame / fps if start.seconds is None else start.seconds,
            transition=segment.transition,
            line=segment.line,
            seed=segment.seed,
            blend=blend_chunks(segment.blend, fps, chunk),
        )
        for index, (segment, start, spot) in enumerate(zip(segments, starts, spots, strict=True))
    )
    # A film with an exact number of chunks may be the start of a longer one, so it may end inside a blend.
    for segment, written in zip(planned[:-1] if exact else planned, segments, strict=False):
        check_blend(segment, written.column)
    hints = tuple(plan_hints(segments, anchor, planned, frames, fps, chunk))
    return Plan(chunks, frames, fps, chunk, planned, hints, anchor)


def _at_rate(segment: Segment, fps: float) -> Segment:
    """Return the segment with its times in frames converted to seconds."""
    times = {name: time.at_rate(fps) for name in ("time", "end") if (time := getattr(segment, name)) is not None}
    return segment if all(getattr(segment, name) is time for name, time in times.items()) else replace(segment, **times)


def blend_chunks(blend: Time | None, fps: float, chunk: int) -> int:
    """Return the number of chunks nearest to a blend's length, at least one; a tie is rounded up, as for times."""
    if blend is None:
        return 0
    blend = blend.at_rate(fps)
    if blend.chunk is not None:
        return blend.chunk
    return max(1, math.floor(blend.seconds * fps / (4 * chunk) + 0.5 + NOISE))


def check_blend(segment: PlannedSegment, column: int) -> None:
    """Raise TimelineError for a blend that does not end before its segment does."""
    if segment.blend >= segment.chunks:
        raise TimelineError(
            f"the blend lasts {count(segment.blend, 'chunk')}, but its segment only {count(segment.chunks, 'chunk')}; "
            "a blend must end before its segment does, so blend for a shorter time or make the segment longer",
            segment.line,
            column,
        )


def _chunks_of(segments: tuple[Segment, ...], last: _Spot, duration: float | None, fps: float, chunk: int) -> int:
    """Return the chunks of a film of that duration, or of the timeline's own length."""
    end = segments[-1].end
    if end is not None and end.chunk is not None and duration is None:
        return end.chunk
    seconds = _own_duration(segments, last, fps) if duration is None else duration
    frames_left = seconds * fps - last.shot_frame
    return last.shot_chunk + max(1, math.ceil((frames_left + 3) / (4 * chunk) - NOISE))


def _check_clock(duration: float | None, fps: float, chunk: int, chunks: int | None) -> None:
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk is {chunk!r}; it must be a whole number of latent frames from 1")
    check_fps(fps)
    if chunks is not None:
        if duration is not None:
            raise ValueError(f"both a duration ({duration!r} s) and chunks ({chunks!r}) are given; give one of them")
        check_chunks(chunks, fps)
    if duration is None:
        return
    if not math.isfinite(duration) or duration <= 0:
        raise TimelineError(f"the duration is {duration:g} s; it must be above 0")
    check_seconds(duration)


def _starts(segments: tuple[Segment, ...], duration: float | None, chunks: int | None) -> list[Time]:
    """Return the time of each segment; segments without times are split evenly."""
    if segments[0].time is not None:
        return [segment.time for segment in segments]
    if chunks is not None:
        # Round to the nearest chunk in integers: index * chunks / number + 1/2, rounded down.
        number = len(segments)
        return [Time(chunk=(2 * index * chunks + number) // (2 * number)) for index in range(number)]
    each = DEFAULT_SEGMENT_SECONDS if duration is None else duration / len(segments)
    return [Time(seconds=index * each) for index in range(len(segments))]


def _own_duration(segments: tuple[Segment, ...], last: _Spot, fps: float) -> float:
    """Return the seconds of a film without a given length."""
    segment = segments[-1]
    if segment.end is not None:
        seconds = segment.end.seconds
    elif segment.time is None:
        seconds = len(segments) * DEFAULT_SEGMENT_SECONDS
    else:
        start = last.frame / fps if segment.time.seconds is None else segment.time.seconds
        seconds = start + DEFAULT_SEGMENT_SECONDS
    check_seconds(seconds)
    return seconds


def _check_before(segments: tuple[Segment, ...], starts: list[Time], duration: float) -> None:
    for segment, start in zip(segments, starts, strict=True):
        if start.seconds is not None and start.seconds >= duration:
            raise TimelineError(
                f"the segment starts at {start.brief()}, past the end of the film at {Time(seconds=duration).brief()}; "
                "make the film longer or start the segment earlier",
                segment.line,
                segment.column,
            )


def _place(segments: tuple[Segment, ...], starts: list[Time], fps: float, chunk: int) -> list[_Spot]:
    """Snap every start to the nearest chunk boundary of the shot that it falls into."""
    spots: list[_Spot] = []
    shot_chunk = shot_frame = 0
    for index, (segment, start) in enumerate(zip(segments, starts, strict=True)):
        if start.seconds is not None:
            check_seconds(start.seconds)
            inside = nearest_chunk(start.seconds * fps - shot_frame, chunk)
        else:
            inside = start.chunk - shot_chunk
            check_frames(shot_frame + shot_boundary(inside, chunk), fps, chunk)
        if spots and shot_chunk + inside <= spots[-1].chunk:
            raise _collision(segments[index - 1], segment, starts[index - 1], start, spots[-1], shot_chunk + inside)
        spot_chunk, spot_frame = shot_chunk + inside, shot_frame + shot_boundary(inside, chunk)
        if segment.transition == "cut":
            shot_chunk, shot_frame = spot_chunk, spot_frame
        spots.append(_Spot(spot_chunk, spot_frame, shot_chunk, shot_frame))
    return spots


def _collision(
    before: Segment, segment: Segment, before_start: Time, start: Time, spot: _Spot, chunk: int
) -> TimelineError:
    """Return the error for a segment that would not start after the one before it.

    spot: where the one before starts. chunk: where this one would.
    """
    where = f"line {before.line}"
    if before.line == segment.line:
        where += f", column {before.column}"
    if chunk < spot.chunk:
        what = (
            f"the segment starts at {start.brief()} (chunk {chunk}), before the one in {where}, which starts at "
            f"{before_start.brief()} (chunk {spot.chunk}); times must increase"
        )
    else:
        what = (
            f"the segment starts with chunk {spot.chunk}, and so does the one in {where} ({start.brief()} and "
            f"{before_start.brief()} both snap to it); put them further apart or make the film longer"
        )
    return TimelineError(what, segment.line, segment.column)


def check_begins(segment: Segment, chunk: int, frame: int, chunks: int, fps: float) -> None:
    """Raise TimelineError for a segment that would start past the end of the film."""
    if chunk >= chunks:
        raise TimelineError(
            f"the segment starts with chunk {chunk} ({frame / fps:.2f} s), past the end of the film, whose last chunk "
            f"is {chunks - 1}; make the film longer or start the segment earlier",
            segment.line,
            segment.column,
        )


def _check_inside(last: Segment, spot: _Spot, chunks: int, frames: int, fps: float) -> None:
    """Check that the last segment has at least one chunk, and that its range ends inside the film."""
    check_begins(last, spot.chunk, spot.frame, chunks, fps)
    end = last.end
    if end is None:
        return
    over = end.chunk > chunks if end.chunk is not None else end.seconds > frames / fps + NOISE
    if over:
        raise TimelineError(
            f"the range ends at {end}, past the end of the film ({count(chunks, 'chunk')}, {frames / fps:.2f} s); "
            "make the film longer",
            last.line,
            last.column,
        )
