"""Script -> Plan: seconds become chunks and frames.

The clock: latent frame 0 of a shot is 1 pixel frame, every other one 4. With C latent frames a chunk, chunk i of a
shot begins at pixel frame 0 (i = 0) or 4 C i - 3, and a shot of n chunks has 4 C n - 3 frames. A cut starts a new
shot, so the boundaries after it count from there.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from .syntax import Segment, Time, TimelineError

if TYPE_CHECKING:
    from .script import Script

DEFAULT_SEGMENT_SECONDS = 10.0
MAX_SECONDS = 24 * 3600.0
# Float noise in seconds * fps must not add a chunk: 0.1 * 3 is 0.30000000000000004.
_NOISE = 1e-6
_SHORT_CHUNKS = 2


@dataclass(frozen=True)
class PlannedSegment:
    """One prompt in the film.

    text: with the anchor in front. start_chunk, chunks: in chunks of the film. start_frame: pixel frame of the film.
    start_seconds: the snapped time; requested_seconds: the time asked for. line: where it is written.
    """

    text: str
    start_chunk: int
    chunks: int
    start_frame: int
    start_seconds: float
    requested_seconds: float
    transition: str
    line: int


@dataclass(frozen=True)
class Plan:
    """What will be rendered: `chunks` chunks of `chunk` latent frames, `frames` pixel frames at `fps`."""

    chunks: int
    frames: int
    fps: float
    chunk: int
    segments: tuple[PlannedSegment, ...]
    hints: tuple[str, ...]
    anchor: str | None = None

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    @property
    def texts(self) -> tuple[str, ...]:
        """The distinct prompts, in order of first use."""
        return tuple(dict.fromkeys(segment.text for segment in self.segments))

    @property
    def longest_shot(self) -> int:
        """Chunks of the longest shot."""
        cuts = [segment.start_chunk for segment in self.segments[1:] if segment.transition == "cut"]
        return max(end - start for start, end in pairwise((0, *cuts, self.chunks)))

    def describe(self) -> str:
        """The plan for people: length, then one line a segment with its snapped time, then the hints."""
        lines = [f"{_count(self.chunks, 'chunk')}, {self.frames} frames, {self.seconds:.2f} s at {self.fps:g} fps"]
        skip = 0
        if self.anchor is not None:
            lines.append(f"  anchor: {_shorten(self.anchor, 100)}")
            skip = len(self.anchor) + 1
        for segment in self.segments:
            asked = segment.requested_seconds
            moved = abs(asked - segment.start_seconds) > 0.005
            how = "" if segment.start_chunk == 0 else f" {segment.transition}"
            note = f" (asked {asked:.2f} s)" if moved else ""
            lines.append(
                f"  {segment.start_seconds:7.2f} s  chunk {segment.start_chunk:4d}  frame {segment.start_frame:5d}"
                f"{how:8s}{note}  {_shorten(segment.text[skip:], 60)}"
            )
        return "\n".join(lines + [f"hint: {hint}" for hint in self.hints])


def shot_boundary(index: int, chunk: int) -> int:
    """Pixel frame, from the shot's start, at which chunk `index` begins; also the length of a shot of that many."""
    return 0 if index == 0 else 4 * chunk * index - 3


def _nearest_chunk(frame: float, chunk: int) -> int:
    """The chunk whose start is nearest to a pixel frame of its shot; a tie goes to the later one."""
    below = max(0, math.floor((frame + 3) / (4 * chunk)))
    to_below, to_above = frame - shot_boundary(below, chunk), shot_boundary(below + 1, chunk) - frame
    return below + 1 if to_above <= to_below + _NOISE else below


@dataclass(frozen=True)
class _Spot:
    """A segment's place: chunk and pixel frame of the film, and those of the shot it belongs to."""

    chunk: int
    frame: int
    shot_chunk: int
    shot_frame: int


def make_plan(script: Script, duration: float | None, fps: float, chunk: int) -> Plan:
    """See Script.plan."""
    _check_clock(duration, fps, chunk)
    segments = script.segments
    starts = _starts(segments, duration)
    if duration is not None:
        _check_before(segments, starts, duration)
    spots = _place(segments, starts, fps, chunk)
    end = segments[-1].end
    if end is not None and end.chunk is not None and duration is None:
        chunks = end.chunk
    else:
        seconds = _own_duration(segments, spots[-1], fps) if duration is None else duration
        frames_left = seconds * fps - spots[-1].shot_frame
        chunks = spots[-1].shot_chunk + max(1, math.ceil((frames_left + 3) / (4 * chunk) - _NOISE))
    frames = spots[-1].shot_frame + shot_boundary(max(0, chunks - spots[-1].shot_chunk), chunk)
    _check_inside(segments[-1], spots[-1], chunks, frames, fps)
    planned = tuple(
        PlannedSegment(
            text=segment.text if script.anchor is None else f"{script.anchor} {segment.text}",
            start_chunk=spot.chunk,
            chunks=(spots[index + 1].chunk if index + 1 < len(spots) else chunks) - spot.chunk,
            start_frame=spot.frame,
            start_seconds=spot.frame / fps,
            requested_seconds=spot.frame / fps if start.seconds is None else start.seconds,
            transition=segment.transition,
            line=segment.line,
        )
        for index, (segment, start, spot) in enumerate(zip(segments, starts, spots, strict=True))
    )
    hints = script.notes + tuple(_hints(script, planned, frames, fps, chunk))
    return Plan(chunks, frames, fps, chunk, planned, hints, script.anchor)


def _check_clock(duration: float | None, fps: float, chunk: int) -> None:
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk is {chunk!r}; it is a whole number of latent frames from 1")
    if not math.isfinite(fps) or fps <= 0:
        raise ValueError(f"fps is {fps!r}; it is a number above 0")
    if duration is None:
        return
    if not math.isfinite(duration) or duration <= 0:
        raise TimelineError(f"the duration is {duration:g} s; it must be above 0")
    _check_length(duration)


def _check_length(seconds: float) -> None:
    if seconds > MAX_SECONDS:
        raise TimelineError(f"the film would last {seconds:g} s; the most is {MAX_SECONDS:g} s (24 hours)")


def _starts(segments: tuple[Segment, ...], duration: float | None) -> list[Time]:
    """The time of each segment; those without are split evenly."""
    if segments[0].time is not None:
        return [segment.time for segment in segments]
    each = DEFAULT_SEGMENT_SECONDS if duration is None else duration / len(segments)
    return [Time(seconds=index * each) for index in range(len(segments))]


def _own_duration(segments: tuple[Segment, ...], last: _Spot, fps: float) -> float:
    """Seconds of a film whose length nobody gave."""
    segment = segments[-1]
    if segment.end is not None:
        seconds = segment.end.seconds
    elif segment.time is None:
        seconds = len(segments) * DEFAULT_SEGMENT_SECONDS
    else:
        start = last.frame / fps if segment.time.seconds is None else segment.time.seconds
        seconds = start + DEFAULT_SEGMENT_SECONDS
    _check_length(seconds)
    return seconds


def _check_before(segments: tuple[Segment, ...], starts: list[Time], duration: float) -> None:
    for segment, start in zip(segments, starts, strict=True):
        if start.seconds is not None and start.seconds >= duration:
            raise TimelineError(
                f"the segment starts at {start.brief()}, past the end of the film at {Time(seconds=duration).brief()}; "
                "make the film longer or start it earlier",
                segment.line,
                segment.column,
            )


def _place(segments: tuple[Segment, ...], starts: list[Time], fps: float, chunk: int) -> list[_Spot]:
    """Snap every start to the nearest chunk boundary of the shot that runs when it comes."""
    spots: list[_Spot] = []
    shot_chunk = shot_frame = 0
    for index, (segment, start) in enumerate(zip(segments, starts, strict=True)):
        if start.seconds is not None:
            _check_length(start.seconds)
            inside = _nearest_chunk(start.seconds * fps - shot_frame, chunk)
        else:
            _check_length(start.chunk * 4 * chunk / fps)
            inside = start.chunk - shot_chunk
        if spots and shot_chunk + inside <= spots[-1].chunk:
            raise _collision(segments[index - 1], segment, starts[index - 1], start, spots[-1], shot_chunk + inside)
        spot_chunk, spot_frame = shot_chunk + inside, shot_frame + shot_boundary(inside, chunk)
        if segment.transition == "cut":
            shot_chunk, shot_frame = spot_chunk, spot_frame
        spots.append(_Spot(spot_chunk, spot_frame, shot_chunk, shot_frame))
    return spots


def _collision(
    before: Segment, segment: Segment, before_start: Time, start: Time, spot: _Spot, found: int
) -> TimelineError:
    """The error for a segment that would not start after the one before it."""
    where = f"line {before.line}"
    if before.line == segment.line:
        where += f", column {before.column}"
    if found < spot.chunk:
        what = (
            f"the segment starts at {start.brief()} (chunk {found}), before the one in {where}, which starts at "
            f"{before_start.brief()} (chunk {spot.chunk}); times must rise"
        )
    else:
        what = (
            f"the segment starts with chunk {spot.chunk}, and so does the one in {where} ({start.brief()} and "
            f"{before_start.brief()} both snap to it); put them further apart or make the film longer"
        )
    return TimelineError(what, segment.line, segment.column)


def _check_inside(last: Segment, spot: _Spot, chunks: int, frames: int, fps: float) -> None:
    """The last segment has at least one chunk, and a range does not reach past the film."""
    if spot.chunk >= chunks:
        raise TimelineError(
            f"the segment starts with chunk {spot.chunk} ({spot.frame / fps:.2f} s), past the end of the film, whose "
            f"last chunk is {chunks - 1}; make the film longer or start it earlier",
            last.line,
            last.column,
        )
    end = last.end
    if end is None:
        return
    over = end.chunk > chunks if end.chunk is not None else end.seconds > frames / fps + _NOISE
    if over:
        raise TimelineError(
            f"the range ends at {end}, past the end of the film ({chunks} chunks, {frames / fps:.2f} s); make the "
            "film longer",
            last.line,
            last.column,
        )


def _hints(script: Script, planned: tuple[PlannedSegment, ...], frames: int, fps: float, chunk: int) -> list[str]:
    hints = []
    end = script.segments[-1].end
    early = end is not None and (
        end.chunk < planned[-1].start_chunk + planned[-1].chunks
        if end.chunk is not None
        else end.seconds < (frames - 4 * chunk) / fps
    )
    if early:
        hints.append(f"line {planned[-1].line}: the range ends at {end}; its prompt is held to {frames / fps:.2f} s")
    for segment in planned:
        if segment.chunks < _SHORT_CHUNKS:
            hints.append(
                f"line {segment.line}: the segment lasts {_count(segment.chunks, 'chunk')}; a prompt needs two or "
                "more to show"
            )
    if script.anchor is None:
        for before, segment in pairwise(script.segments):
            if segment.transition != "cut" and not _related(before.text, segment.text):
                hints.append(
                    f"line {segment.line}: the segment repeats neither subject nor setting of line {before.line}, so "
                    "the picture may jump; name them again, add an anchor line '* text', or write {cut}"
                )
    return hints


_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+")
# Words that any two prompts share without sharing a subject or a setting.
_COMMON_WORDS = (
    "a an and are as at by camera close for from has her high his in into is it its light medium my of off on onto "
    "or our out over quality realistic scene she he shot shows slowly style that the their them then there they this "
    "to towards under up video view while wide with you your"
)
_COMMON = frozenset(_COMMON_WORDS.split())


def _stems(text: str) -> set[str]:
    """Content words without their commonest English endings, so that 'pandas' and 'panda' meet."""
    words = (word for word in _WORDS.findall(text.lower()) if word not in _COMMON)
    return {re.sub(r"(?:'s|ing|ed|es|s)$", "", word) if len(word) > 4 else word for word in words}


def _related(before: str, after: str) -> bool:
    first, second = _stems(before), _stems(after)
    # Without any content word there is nothing to judge.
    return not first or not second or not first.isdisjoint(second)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
