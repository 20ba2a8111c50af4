"""A film of the toybox by its judge: does it show what was asked for, does it stay the same, does it jump?

The judge (pocket/judge.py) reads pixels and knows nothing of what was asked. Its constants of time are for 16 frames a
second, as the toybox is.

Words: a *sight* is one frame as the judge sees it, a *reading* what the sights of a three-second window show together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..toybox import HEIGHT, WIDTH, drawing, judge, motion, world
from ..toybox.captions import attributes_of
from ..toybox.judge import Reading, Sight, read
from ..toybox.jumps import is_smooth, largest_jump, longest_unseen
from ..toybox.obedience import FIELDS, SETTLED, shows
from ..toybox.world import Attributes
from .continuity import AFTER, BEFORE
from .film_file import FilmSegment, check_starts

WINDOW = 48  # frames, 3 s: whole periods of all actions
STRIDES = (1, 2, 4, 8)  # frames between sights; they divide a window into six or more
ALL_FIELDS = (*FIELDS, "shape")
_CLEAR = 6.0  # pixels around a subject that its picture, or the VAE's blur of it, may cover


@dataclass(frozen=True)
class Expected:
    """What the film is to show from the frame `start` on. transition, blend: as of `films.FilmSegment`."""

    start: int
    attributes: Attributes
    transition: str = "recache"
    blend: int = 0


@dataclass(frozen=True)
class WindowReading:
    """What a window of 48 frames from the frame `start` on showed, and whether it is all that was asked."""

    start: int
    segment: int
    shown: Reading
    right: bool


@dataclass(frozen=True)
class SegmentScore:
    """One segment, after it has settled. None for what it is too short for.

    Attributes:
        start: its first frame.
        asked: what was asked.
        windows: how many were read.
        adherence: share of windows that show colour, setting and action at once.
        fields: share of windows that show this one, for colour, setting, action, shape.
        subject_as_asked: share of sights with the colour and the shape asked for.
        subject_consistency: over sights, the mean of [as in the first window] and [as in the sight before], by colour
            and shape together: VBench's formula with equal or not in the place of a cosine.
        background_consistency: the same for the setting.
        ground_error: mean absolute distance of the ground around the subject from the setting asked for, levels of
            0 to 255.
    """

    start: int
    asked: Attributes
    windows: int
    adherence: float | None
    fields: Mapping[str, float | None]
    subject_as_asked: float | None
    subject_consistency: float | None
    background_consistency: float | None
    ground_error: float | None


@dataclass(frozen=True)
class SwitchScore:
    """One switch.

    Attributes:
        frame: the first of the new segment.
        transition: how it begins.
        jump: the largest jump of the subject around it (`jumps.largest_jump`), pixels; None where there is none to see.
        unseen: the longest run of frames around it without a subject.
        smooth: whether the jump is at most 8 pixels, and the subject is never gone for longer than the toybox's own
            fade (8 frames).
    """

    frame: int
    transition: str
    jump: float | None
    unseen: int
    smooth: bool


@dataclass(frozen=True)
class ToyboxScore:
    """A film. adherence, fields: shares of all windows; the others: means over segments. As of `SegmentScore`.

    film_subject_consistency, film_background_consistency: over the settled sights of the whole film, against its first
        window: for films whose subject, or setting, is to stay.
    smooth: share of the switches but cuts without a jump, None where there are none.
    """

    adherence: float
    fields: Mapping[str, float]
    subject_as_asked: float
    subject_consistency: float
    background_consistency: float
    ground_error: float
    film_subject_consistency: float
    film_background_consistency: float
    smooth: float | None
    segments: tuple[SegmentScore, ...]
    switches: tuple[SwitchScore, ...]
    windows: tuple[WindowReading, ...]


def expected_of(segments: Sequence[FilmSegment]) -> list[Expected]:
    """What prompts ask for. ValueError, with the segment, where one is no sentence of the toybox."""
    asked = []
    for number, segment in enumerate(segments, 1):
        try:
            asked.append(Expected(segment.start, attributes_of(segment.text), segment.transition, segment.blend))
        except ValueError as error:
            raise ValueError(
                f"segment {number} cannot be judged as a toybox film: {error}. Leave --toybox out for other films"
            ) from error
    return asked


def check_judge_stride(stride: int) -> None:
    if stride not in STRIDES:
        raise ValueError(f"the judge's stride is {stride}; it is one of {', '.join(map(str, STRIDES))} frames")


class ToyboxMeter:
    """Takes a film's frames one by one and keeps what the judge sees of some; 10 to 20 ms for each of those.

    Args:
        asked: the segments, the first from frame 0 on.
        stride: frames between sights, one of `STRIDES`; around switches every frame is looked at.
    """

    def __init__(self, asked: Sequence[Expected], stride: int = judge.STRIDE):
        check_starts([part.start for part in asked])
        check_judge_stride(stride)
        self._asked, self._stride = list(asked), stride
        # The film's beginning and a new shot have nothing to settle from.
        self._settled = [
            part.start + (SETTLED + part.blend if number and part.transition != "cut" else 0)
            for number, part in enumerate(asked)
        ]
        self._sights: dict[int, Sight] = {}
        self._ground_errors: dict[int, float] = {}
        self._frames = 0

    def see(self, index: int, frame: np.ndarray) -> None:
        """The frame `index`, uint8 [80, 128, 3]. ValueError for another size."""
        if frame.shape != (HEIGHT, WIDTH, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"the judge reads uint8 frames of {WIDTH} x {HEIGHT} pixels, got "
                f"{frame.dtype} of shape {list(frame.shape)}; leave --toybox out for others"
            )
        self._frames = index + 1
        segment = self._segment(index)
        sampled = self._is_sampled(segment, index)
        if sampled or any(part.start - BEFORE <= index < part.start + AFTER for part in self._asked[1:]):
            self._sights[index] = judge.look(frame)
        if sampled:
            self._ground_errors[index] = ground_error(frame, self._sights[index], self._asked[segment].attributes)

    def result(self) -> ToyboxScore:
        """ValueError where no segment is long enough to be read."""
        windows = [window for number in range(len(self._asked)) for window in self._windows(number)]
        if not windows:
            raise ValueError(
                f"the film ({self._frames} frames) is too short to judge: it takes a segment of {WINDOW} "
                f"frames (3 s), after {SETTLED} more (1.5 s) where the prompt has changed"
            )
        segments = [
            self._segment_score(number, [w for w in windows if w.segment == number])
            for number in range(len(self._asked))
        ]
        switches = [self._switch(part) for part in self._asked[1:] if part.start < self._frames]
        joins = [switch.smooth for switch in switches if switch.transition != "cut"]
        means = {
            name: _mean([getattr(s, name) for s in segments if getattr(s, name) is not None])
            for name in ("subject_as_asked", "subject_consistency", "background_consistency", "ground_error")
        }
        settled = [index for number in range(len(self._asked)) for index in self._sampled(number)]
        subject, background = self._consistencies(settled, windows[0].shown)
        return ToyboxScore(
            _mean([w.right for w in windows]),
            self._shares(windows),
            **means,
            film_subject_consistency=subject,
            film_background_consistency=background,
            smooth=_mean(joins),
            segments=tuple(segments),
            switches=tuple(switches),
            windows=tuple(windows),
        )

    def _segment(self, index: int) -> int:
        return max(number for number, part in enumerate(self._asked) if part.start <= index)

    def _is_sampled(self, segment: int, index: int) -> bool:
        since = index - self._settled[segment]
        return since >= 0 and since % self._stride == 0

    def _sampled(self, number: int) -> list[int]:
        """The frames of a segment that were looked at, after it had settled."""
        end = self._asked[number + 1].start if number + 1 < len(self._asked) else self._frames
        return list(range(self._settled[number], min(end, self._frames), self._stride))

    def _windows(self, number: int) -> list[WindowReading]:
        frames, count = self._sampled(number), WINDOW // self._stride
        found = []
        for first in range(0, len(frames) - count + 1, count):
            shown = read([self._sights[index] for index in frames[first : first + count]], self._stride)
            right = shows(shown, self._asked[number].attributes)
            found.append(WindowReading(frames[first], number, shown, right))
        return found

    def _shares(self, windows: Sequence[WindowReading]) -> dict[str, float | None]:
        return {
            field: _mean([shows(w.shown, self._asked[w.segment].attributes, (field,)) for w in windows])
            for field in ALL_FIELDS
        }

    def _segment_score(self, number: int, windows: Sequence[WindowReading]) -> SegmentScore:
        part, frames = self._asked[number], self._sampled(number) if windows else []
        wanted = (part.attributes.colour, part.attributes.shape)
        return SegmentScore(
            part.start,
            part.attributes,
            len(windows),
            _mean([window.right for window in windows]),
            self._shares(windows),
            _mean([subject == wanted for subject in self._subjects(frames)]),
            *(self._consistencies(frames, windows[0].shown) if windows else (None, None)),
            _mean([self._ground_errors[index] for index in frames]),
        )

    def _subjects(self, frames: Sequence[int]) -> list[tuple[str, str]]:
        return [(self._sights[index].colour, self._sights[index].shape) for index in frames]

    def _consistencies(self, frames: Sequence[int], first: Reading) -> tuple[float | None, float | None]:
        """Of the subject, and of the background."""
        settings = [self._sights[index].setting for index in frames]
        return (
            _consistency(self._subjects(frames), (first.colour, first.shape)),
            _consistency(settings, first.setting),
        )

    def _switch(self, part: Expected) -> SwitchScore:
        around = [
            self._sights[index]
            for index in range(max(0, part.start - BEFORE), part.start + AFTER)
            if index in self._sights
        ]
        jump, unseen = largest_jump(around), longest_unseen(around)
        return SwitchScore(part.start, part.transition, jump, unseen, is_smooth(around))


def evaluate_toybox(
    frames: Iterable[np.ndarray], segments: Sequence[tuple[int, Attributes]], stride: int = judge.STRIDE
) -> ToyboxScore:
    """Judge a film of the toybox.

    Args:
        frames: uint8 [80, 128, 3] each, an array [T, 80, 128, 3] or any iterable, at 16 frames a second.
        segments: (first frame, what is asked from there on), the first at frame 0.
        stride: frames between those that are looked at, one of `STRIDES`.

    ValueError for another size, a film too short to read, and segments that do not rise from 0.
    """
    meter = ToyboxMeter([Expected(start, attributes) for start, attributes in segments], stride)
    for index, frame in enumerate(frames):
        meter.see(index, frame)
    return meter.result()


def ground_error(frame: np.ndarray, sight: Sight, asked: Attributes) -> float:
    """Mean absolute distance, in levels, of what is not subject in uint8 [80, 128, 3] from the setting asked for."""
    tile = world.SETTINGS[asked.setting]
    ground = np.tile(tile, (HEIGHT // drawing.TILE, WIDTH // drawing.TILE, 1))
    x, y = drawing.own_coordinates([motion.State(sight.x, sight.y)])
    bare = np.hypot(x[0], y[0]) > 1.3 * drawing.RADIUS * sight.size + _CLEAR  # 1.3: a star's points
    return float(np.abs(frame[bare] - ground[bare]).mean())


def _consistency(values: Sequence, first) -> float | None:
    """Mean over the values but the first of ([equal to `first`] + [equal to the one before]) / 2."""
    return _mean([((now == first) + (now == before)) / 2 for before, now in pairwise(values)])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
