"""Drift over time, without any model: colour, contrast, saturation, sharpness and motion of a film's windows.

Every window is compared twice: with the *sink*, the film's first frames, and with the first window of its own segment,
because a new prompt may request other colours, which is not drift.

Shapes: T frames, H, W pixels. Pixels are levels of 0 to 255.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .continuity import Jump, jumps
from .film_file import check_starts

SINK_FRAMES = 9  # pixel frames of the first three latent frames, which stay visible to every chunk
WINDOW_SECONDS = 3.0  # whole periods of all toybox actions; the same as the judge's windows
SETTLE_SECONDS = 1.5  # after a switch, before a segment's first window
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
MEASURES = ("contrast", "saturation", "sharpness", "motion")


@dataclass(frozen=True)
class Look:
    """Average appearance of some frames.

    Attributes:
        colour: mean red, green, blue, levels.
        contrast: standard deviation of luma inside a frame, levels.
        saturation: largest minus smallest of a pixel's channels, mean, levels.
        sharpness: variance of the Laplacian (4 neighbours) of luma, squared levels.
        motion: mean absolute change of a channel from frame to frame, levels; None for a single frame.
    """

    colour: tuple[float, float, float]
    contrast: float
    saturation: float
    sharpness: float
    motion: float | None


@dataclass(frozen=True)
class Shift:
    """How one look differs from a reference.

    Attributes:
        colour: distance of the mean colours (Euclidean in RGB), levels; 0 is equal.
        contrast, saturation, sharpness, motion: ratio to the reference; 1 is equal, None if the reference has none.
    """

    colour: float
    contrast: float | None
    saturation: float | None
    sharpness: float | None
    motion: float | None


@dataclass(frozen=True)
class DriftWindow:
    """One window of a film. sink: shift from the film's first frames. own: shift from its segment's first window."""

    start: int
    end: int
    segment: int
    look: Look
    sink: Shift
    own: Shift


@dataclass(frozen=True)
class Drift:
    """Drift of a film.

    Attributes:
        frames: number of frames.
        reference: the look of the sink; its motion is that of the film's first window (nine frames are too few).
        windows: in order.
        sink: the last window's shift from the sink.
        own: the last windows' shifts from their segments' first, mean over segments of two windows or more; None if
            there is none.
        switches: pixel continuity: change from frame to frame around each switch.
    """

    frames: int
    reference: Look
    windows: tuple[DriftWindow, ...]
    sink: Shift
    own: Shift | None
    switches: tuple[Jump, ...]


class DriftMeter:
    """Takes a film's frames one by one; keeps a few numbers per frame.

    Args:
        starts: first frames of the segments.
        fps: frames per second.
        sink_frames: number of first frames that are the reference.
        seconds: length of a window.
    """

    def __init__(
        self, starts: Sequence[int], fps: float, sink_frames: int = SINK_FRAMES, seconds: float = WINDOW_SECONDS
    ):
        check_starts(list(starts))
        self._starts, self._sink = list(starts), sink_frames
        self._size, self._settle = max(2, round(seconds * fps)), round(SETTLE_SECONDS * fps)
        if sink_frames < 1 or not seconds > 0:
            raise ValueError(f"sink_frames {sink_frames}, seconds {seconds}: both must be above 0")
        self._numbers: list[tuple[float, ...]] = []
        self._before: np.ndarray | None = None

    def see(self, index: int, frame: np.ndarray) -> None:
        """Take the frame `index`, uint8 [H, W, 3]."""
        self._numbers.append(_numbers(frame, self._before))
        self._before = frame

    def check_length(self, frames: int) -> None:
        """Raise ValueError if the film is shorter than the sink or one window, or no segment has room for a window."""
        if frames < max(self._size, self._sink):
            raise ValueError(
                f"the film has {frames} frames, too few to measure drift: it needs at least "
                f"{max(self._size, self._sink)} (one window); use a longer film"
            )
        if all(end - start < self._size for start, end in self._windows(frames)):
            raise ValueError(
                f"no segment of the film is long enough for a window of {self._size} frames after "
                f"{self._settle} frames to settle; use a film with longer segments"
            )

    def result(self) -> Drift:
        """Return the film's drift. ValueError as in `check_length`."""
        numbers = np.array(self._numbers)
        self.check_length(len(numbers))
        sink = Look(**{**asdict(_look(numbers[: self._sink])), "motion": _look(numbers[: self._size]).motion})
        windows: list[DriftWindow] = []
        for number, (start, end) in enumerate(self._windows(len(numbers))):
            for first in range(start, end - self._size + 1, self._size):
                look = _look(numbers[first : first + self._size])
                own = next((window.look for window in windows if window.segment == number), look)
                windows.append(
                    DriftWindow(first, first + self._size, number, look, _shift(look, sink), _shift(look, own))
                )
        switches = [start for start in self._starts[1:] if start < len(numbers)]
        steps = jumps(np.arange(1, len(numbers)), numbers[1:, 6], switches)
        return Drift(len(numbers), sink, tuple(windows), windows[-1].sink, _mean_of_last(windows), tuple(steps))

    def _windows(self, frames: int) -> list[tuple[int, int]]:
        """Return where the settled part of each segment begins and ends."""
        ends = [*self._starts[1:], frames]
        return [
            (start + (self._settle if number else 0), min(end, frames))
            for number, (start, end) in enumerate(zip(self._starts, ends, strict=True))
        ]


def evaluate_drift(
    frames: Iterable[np.ndarray],
    starts: Sequence[int] = (0,),
    fps: float = 16,
    sink_frames: int = SINK_FRAMES,
    seconds: float = WINDOW_SECONDS,
) -> Drift:
    """Measure drift and pixel continuity of frames uint8 [H, W, 3] (an array or any iterable); see `DriftMeter`."""
    meter = DriftMeter(starts, fps, sink_frames, seconds)
    for index, frame in enumerate(frames):
        meter.see(index, frame)
    return meter.result()


def _numbers(frame: np.ndarray, before: np.ndarray | None) -> tuple[float, ...]:
    """Return mean red, green, blue, contrast, saturation, sharpness, and motion (NaN for a film's first frame)."""
    planes = np.ascontiguousarray(frame.transpose(2, 0, 1))  # [3, H, W]; three times as fast
    red, green, blue = planes
    luma = np.tensordot(_LUMA, planes.astype(np.float32), axes=1)
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    motion = np.nan if before is None else (np.maximum(frame, before) - np.minimum(frame, before)).mean()
    return *planes.mean(axis=(1, 2)), luma.std(), spread.mean(), laplacian.var(), motion


def _look(numbers: np.ndarray) -> Look:
    red, green, blue, contrast, saturation, sharpness = (float(value) for value in numbers[:, :6].mean(axis=0))
    # The step into a window is not part of it: at a switch or a cut it is not motion.
    motion = float(numbers[1:, 6].mean()) if len(numbers) > 1 else None
    return Look((red, green, blue), contrast, saturation, sharpness, motion)


def _shift(look: Look, reference: Look) -> Shift:
    colour = float(np.linalg.norm(np.subtract(look.colour, reference.colour)))
    return Shift(colour, **{name: _by(getattr(look, name), getattr(reference, name)) for name in MEASURES})


def _by(value: float | None, reference: float | None) -> float | None:
    return value / reference if value is not None and reference else None


def _mean_of_last(windows: Sequence[DriftWindow]) -> Shift | None:
    last = {window.segment: window.own for window in windows}
    seen = [window.segment for window in windows]
    shifts = [shift for segment, shift in last.items() if seen.count(segment) > 1]
    if not shifts:
        return None
    values = {
        name: [v for v in (getattr(shift, name) for shift in shifts) if v is not None] for name in ("colour", *MEASURES)
    }
    return Shift(**{name: float(np.mean(v)) if v else None for name, v in values.items()})
