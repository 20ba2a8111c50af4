"""Measure a toybox film with its judge: does it follow its prompts, stay consistent, and switch without a jump?

The judge (toybox/judge.py) reads pixels only and does not know the prompts. Its time constants are for the toybox's 16
frames per second.

Terms: a *sight* is the judge's result for one frame; a *reading* summarises the sights of a three-second window.
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

WINDOW = 48  # frames (3 s): whole periods of all actions
STRIDES = (1, 2, 4, 8)  # frames between sights; a window has six or more
ALL_FIELDS = (*FIELDS, "shape")
_CLEAR = 6.0  # pixels around a subject that the subject or the VAE's blur may cover


@dataclass(frozen=True)
class Expected:
    """The expected content from frame `start` on. transition, blend: see `film_file.FilmSegment`."""

    start: int
    attributes: Attributes
    transition: str = "recache"
    blend: int = 0


@dataclass(frozen=True)
class WindowReading:
    """Reading of the 48-frame window at frame `start`, and whether it matches everything that was requested."""

    start: int
    segment: int
    shown: Reading
    right: bool


@dataclass(frozen=True)
class SegmentScore:
    """Scores of one segment after it has settled; None where the segment is too short. Field names are JSON keys.

    Attributes:
        start: its first frame.
        asked: the requested attributes.
        windows: number of windows read.
        adherence: share of windows that show the requested colour, setting and action together.
        fields: share of windows that show the requested colour, setting, action and shape, each alone.
        subject_as_asked: share of sights with the requested colour and shape.
        subject_consistency: over sights, the mean of [as in the first window] and [as in the sight before], for colour
            and shape together: VBench's formula with equality instead of a cosine.
        background_consistency: the same for the setting.
        ground_error: mean absolute distance of the ground around the subject from the requested setting, levels of 0
            to 255.
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
    """Scores of one switch.

    Attributes:
        frame: first frame of the new segment.
        transition: the segment's transition.
        jump: the largest jump of the subject around it (`jumps.largest_jump`), pixels; None if no jump can be measured.
        unseen: the longest run of frames around it without a subject.
        smooth: whether the jump is at most 8 pixels, and the subject is never missing for longer than the toybox's own
            fade (8 frames).
    """

    frame: int
    transition: str
    jump: float | None
    unseen: int
    smooth: bool


@dataclass(frozen=True)
class ToyboxScore:
    """Scores of a film. adherence, fields: shares of all windows; the others: means over segments (`SegmentScore`).

    film_subject_consistency, film_background_consistency: over the settled sights of the whole film, against its first
        window; for films whose subject, or setting, must stay the same.
    smooth: share of switches without a jump, cuts not counted; None if there are none.
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
    """Parse the prompts' attributes. ValueError, with the segment, if a prompt is not a toybox sentence."""
    expected = []
    for number, segment in enumerate(segments, 1):
        try:
            expected.append(Expected(segment.start, attributes_of(segment.text), segment.transition, segment.blend))
        except ValueError as error:
            raise ValueError(
                f"segment {number} cannot be judged as a toybox film: {error}. Omit --toybox for other films"
            ) from error
    return expected


def check_judge_stride(stride: int) -> None:
    if stride not in STRIDES:
        raise ValueError(f"the judge's stride is {stride}; it must be one of {', '.join(map(str, STRIDES))} frames")


class ToyboxMeter:
    """Takes a film's frames one by one and keeps the sights of some; 10 to 20 ms per sight.

    Args:
        expected: expected content of the segments, the first from frame 0 on.
        stride: frames between sights, one of `STRIDES`; around switches every frame is judged.
    """

    def __init__(self, expected: Sequence[Expected], stride: int = judge.STRIDE):
        check_starts([part.start for part in expected])
        check_judge_stride(stride)
        self._expected, self._stride = list(expected), stride
        # The film's beginning and a new shot need no time to settle.
        self._settled = [
            part.start + (SETTLED + part.blend if number and part.transition != "cut" else 0)
            for number, part in enumerate(expected)
        ]
        self._sights: dict[int, Sight] = {}
        self._ground_errors: dict[int, float] = {}
        self._frames = 0

    def see(self, index: int, frame: np.ndarray) -> None:
        """Take the frame `index`, uint8 [80, 128, 3]. ValueError for another size."""
        if frame.shape != (HEIGHT, WIDTH, 3) or frame.dtype != np.uint8:
            raise ValueError(
                f"the judge reads uint8 frames of {WIDTH} x {HEIGHT} pixels, got "
                f"{frame.dtype} of shape {list(frame.shape)}; omit --toybox for other films"
            )
        self._frames = index + 1
        segment = self._segment(index)
        sampled = self._is_sampled(segment, index)
        if sampled or any(part.start - BEFORE <= index < part.start + AFTER for part in self._expected[1:]):
            self._sights[index] = judge.look(frame)
        if sampled:
            self._ground_errors[index] = ground_error(frame, self._sights[index], self._expected[segment].attributes)

    def result(self) -> ToyboxScore:
        """Return the film's scores. ValueError if no segment is long enough for a window."""
        windows = [window for number in range(len(self._expected)) for window in self._windows(number)]
        if not windows:
            raise ValueError(
                f"the film ({self._frames} frames) is too short to judge: it needs a segment of {WINDOW} "
                f"frames (3 s), plus {SETTLED} frames (1.5 s) after a prompt switch"
            )
        segments = [
            self._segment_score(number, [w for w in windows if w.segment == number])
            for number in range(len(self._expected))
        ]
        switches = [self._switch(part) for part in self._expected[1:] if part.start < self._frames]
        joins = [switch.smooth for switch in switches if switch.transition != "cut"]
        means = {
            name: _mean([getattr(s, name) for s in segments if getattr(s, name) is not None])
            for name in ("subject_as_asked", "subject_consistency", "background_consistency", "ground_error")
        }
        settled = [index for number in range(len(self._expected)) for index in self._sampled(number)]
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
        return max(number for number, part in enumerate(self._expected) if part.start <= index)

    def _is_sampled(self, segment: int, index: int) -> bool:
        since = index - self._settled[segment]
        return since >= 0 and since % self._stride == 0

    def _sampled(self, number: int) -> list[int]:
        """Return the judged frames of a segment, after it has settled."""
        end = self._expected[number + 1].start if number + 1 < len(self._expected) else self._frames
        return list(range(self._settled[number], min(end, self._frames), self._stride))

    def _windows(self, number: int) -> list[WindowReading]:
        frames, count = self._sampled(number), WINDOW // self._stride
        windows = []
        for first in range(0, len(frames) - count + 1, count):
            shown = read([self._sights[index] for index in frames[first : first + count]], self._stride)
            right = shows(shown, self._expected[number].attributes)
            windows.append(WindowReading(frames[first], number, shown, right))
        return windows

    def _shares(self, windows: Sequence[WindowReading]) -> dict[str, float | None]:
        return {
            field: _mean([shows(w.shown, self._expected[w.segment].attributes, (field,)) for w in windows])
            for field in ALL_FIELDS
        }

    def _segment_score(self, number: int, windows: Sequence[WindowReading]) -> SegmentScore:
        part, frames = self._expected[number], self._sampled(number) if windows else []
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
        """Return the consistency of the subject and of the background."""
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
        frames: uint8 [80, 128, 3] each, an array [T, 80, 128, 3] or any iterable, at 16 frames per second.
        segments: (first frame, requested attributes), the first at frame 0.
        stride: frames between sights, one of `STRIDES`.

    ValueError for another size, a film too short to judge, and segments that do not increase from 0.
    """
    meter = ToyboxMeter([Expected(start, attributes) for start, attributes in segments], stride)
    for index, frame in enumerate(frames):
        meter.see(index, frame)
    return meter.result()


def ground_error(frame: np.ndarray, sight: Sight, requested: Attributes) -> float:
    """Return the mean absolute distance, in levels, of the ground in uint8 [80, 128, 3] from the requested setting."""
    tile = world.SETTINGS[requested.setting]
    ground = np.tile(tile, (HEIGHT // drawing.TILE, WIDTH // drawing.TILE, 1))
    x, y = drawing.own_coordinates([motion.State(sight.x, sight.y)])
    bare = np.hypot(x[0], y[0]) > 1.3 * drawing.RADIUS * sight.size + _CLEAR  # 1.3: a star's points
    return float(np.abs(frame[bare] - ground[bare]).mean())


def _consistency(values: Sequence, first) -> float | None:
    """Return the mean, over all values but the first, of ([equal to `first`] + [equal to the one before]) / 2."""
    return _mean([((now == first) + (now == before)) / 2 for before, now in pairwise(values)])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
