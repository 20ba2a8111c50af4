"""A film to evaluate: its frames, one at a time, and what was asked for from which frame on.

Segments come from the tags that our renderer writes into its MP4s, or from a timeline that the user gives. The length
is counted by decoding, because what a container says of it is not always true.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..film.footage import open_footage
from ..film.read_tags import read_film
from ..film.tags import FilmRecord
from ..timeline import parse
from ..timeline.plan import shot_boundary

logger = logging.getLogger(__name__)

_MOST_FRAMES_OFF = 2.5  # what rounded time stamps and a dropped frame may come to


@dataclass(frozen=True)
class FilmSegment:
    """What a film shows from a frame on.

    Attributes:
        start: first frame.
        text: the prompt, with its anchor.
        transition: how it begins, `recache`, `keep` or `cut`; of the first segment without meaning.
        blend: frames over which the prompt before turns into this one.
    """

    start: int
    text: str
    transition: str = "recache"
    blend: int = 0


@dataclass(frozen=True)
class Film:
    """A video file and its segments.

    Attributes:
        path: the file.
        fps: frames a second, its average.
        size: (width, height) in pixels.
        segments: in order, the first from frame 0 on.
        given: first frames that the run did not make (a picture or a clip it began with), 0 where not known.
        claimed: frames that the container says it has, 0 where it does not.
    """

    path: str
    fps: float
    size: tuple[int, int]
    segments: tuple[FilmSegment, ...]
    given: int = 0
    claimed: int = 0

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame in order, uint8 RGB [H, W, 3], upright; one is in memory at a time.

        ValueError for a damaged film, and for one whose frames do not come at its rate: prompts could not be placed.
        """
        with open_footage(self.path) as footage:
            for count, (image, time, _) in enumerate(footage.shown()):
                if abs(time * self.fps - count) > _MOST_FRAMES_OFF:
                    raise ValueError(
                        f"'{self.path}' has no constant frame rate: its frame {count} comes at {time:.2f} "
                        f"s, not at {count / self.fps:.2f} s as {self.fps:g} a second are. Convert it to "
                        f"one first (ffmpeg -i IN -vf fps={self.fps:.6g} OUT)"
                    )
                yield np.asarray(image)
            for note in footage.notes:
                logger.warning("%s", note)


def open_film(path: str | os.PathLike, timeline: str | None = None, chunk: int = 3) -> Film:
    """The film at `path`.

    Args:
        timeline: the text of its timeline (docs/timeline.md), instead of what the file's tags say. Times snap to
            chunks as they do when it is rendered.
        chunk: latent frames a chunk, for `timeline`.

    ValueError where it is not a video, where it says nothing of its prompts and no timeline is given, where its tags
    tell of another rate or a shorter film, and where the timeline does not fit its length.
    """
    path = os.fspath(path)
    fps, size, frames = _look_at(path)
    if timeline is not None:
        return Film(path, fps, size, _from_timeline(path, timeline, fps, frames, chunk), claimed=frames)
    try:
        run = read_film(path)
    except ValueError as error:
        raise ValueError(f"{error}. Its prompts can be given with --timeline") from error
    if abs(fps - run.fps) > 0.01 * run.fps or frames > run.frames:
        raise ValueError(
            f"'{path}' was changed after it was rendered: it has {frames} frames at {fps:g} a second, its "
            f"tags tell of {run.frames} at {run.fps:g}, so its prompts cannot be placed; give the film as "
            "it was rendered, or its prompts with --timeline"
        )
    return Film(path, fps, size, _from_tags(run, frames), shot_boundary(run.given, run.stream.chunk), frames)


def _look_at(path: str) -> tuple[float, tuple[int, int], int]:
    """Frames a second, (width, height), and the number of frames that the container claims (0: it does not)."""
    if not os.path.isfile(path):
        raise ValueError(f"there is no film '{path}'")
    with open_footage(path) as footage:
        if not footage.rate:
            raise ValueError(f"'{path}' has no frame rate (is it a picture?); give a video")
        return float(footage.rate), footage.size, footage.claimed


def _from_tags(run: FilmRecord, frames: int) -> tuple[FilmSegment, ...]:
    """Those segments that begin before the end: a film that was stopped has tags of the whole."""
    size = 4 * run.stream.chunk  # pixel frames of a chunk
    segments = [
        FilmSegment(run.start_frame(part["chunk"]), part["text"], part["transition"], size * part.get("blend", 0))
        for part in run.segments
    ]
    return tuple(part for part in segments if not frames or part.start < frames)


def _from_timeline(path: str, text: str, fps: float, frames: int, chunk: int) -> tuple[FilmSegment, ...]:
    if not frames:
        raise ValueError(f"'{path}' does not say how many frames it has, which a timeline needs; copy it to an MP4")
    plan = parse(text).plan(frames / fps, fps=fps, chunk=chunk)
    for segment in plan.segments:
        if segment.start_frame >= frames:
            raise ValueError(
                f"line {segment.line} of the timeline begins at frame {segment.start_frame} "
                f"({segment.start_seconds:.2f} s), but '{path}' has {frames} frames; is it this film's "
                "timeline?"
            )
    size = 4 * chunk
    return tuple(FilmSegment(part.start_frame, part.text, part.transition, size * part.blend) for part in plan.segments)


def check_starts(starts: list[int]) -> None:
    """Raise ValueError unless segments that begin at these frames cover a film from frame 0 on."""
    if not starts or starts[0] != 0 or any(after <= before for before, after in pairwise(starts)):
        raise ValueError(f"segments begin at the frames {starts}; the first begins at 0, and they rise")
