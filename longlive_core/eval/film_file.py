"""A film file to evaluate: its frames, one at a time, and its segments, the prompts with their first frames.

Segments come from the tags that the renderer writes into its MP4s, or from a timeline that the user gives. The length
is counted by decoding, because a container's metadata is not always correct.
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

_MOST_FRAMES_OFF = 2.5  # tolerance for rounded time stamps and a dropped frame


@dataclass(frozen=True)
class FilmSegment:
    """A film's prompt from a frame on.

    Attributes:
        start: first frame.
        text: the prompt, with its anchor.
        transition: `recache`, `keep` or `cut`; has no meaning for the first segment.
        blend: frames over which the previous prompt is blended into this one.
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
        fps: average frames per second.
        size: (width, height) in pixels.
        segments: in order, the first from frame 0 on.
        given: number of first frames that were not rendered (a picture or a clip at the start), 0 if not known.
        claimed: number of frames according to the container, 0 if it states none.
    """

    path: str
    fps: float
    size: tuple[int, int]
    segments: tuple[FilmSegment, ...]
    given: int = 0
    claimed: int = 0

    def frames(self) -> Iterator[np.ndarray]:
        """Yield every frame in order, uint8 RGB [H, W, 3], upright; one is in memory at a time.

        ValueError if the film is damaged or has no constant frame rate: prompts could not be placed.
        """
        with open_footage(self.path) as footage:
            for count, (image, time, _) in enumerate(footage.pictures()):
                if abs(time * self.fps - count) > _MOST_FRAMES_OFF:
                    raise ValueError(
                        f"'{self.path}' has no constant frame rate: its frame {count} is at {time:.2f} "
                        f"s, not at {count / self.fps:.2f} s as at {self.fps:g} frames per second. Convert "
                        f"it first (ffmpeg -i IN -vf fps={self.fps:.6g} OUT)"
                    )
                yield np.asarray(image)
            for note in footage.notes:
                logger.warning("%s", note)


def open_film(path: str | os.PathLike, timeline: str | None = None, chunk: int = 3) -> Film:
    """Open the film at `path`.

    Args:
        timeline: the text of its timeline (docs/timeline.md), instead of the file's tags. Times snap to chunks as they
            do when a film is rendered.
        chunk: latent frames per chunk, for `timeline`.

    ValueError if the file is not a video; if its tags have no prompts and no timeline is given; if its tags state
    another frame rate or a shorter film; or if the timeline does not fit its length.
    """
    path = os.fspath(path)
    fps, size, frames = _properties(path)
    if timeline is not None:
        return Film(path, fps, size, _from_timeline(path, timeline, fps, frames, chunk), claimed=frames)
    try:
        run = read_film(path)
    except ValueError as error:
        raise ValueError(f"{error}. Its prompts can be given with --timeline") from error
    if abs(fps - run.fps) > 0.01 * run.fps or frames > run.frames:
        raise ValueError(
            f"'{path}' was changed after it was rendered: it has {frames} frames at {fps:g} per second, its "
            f"tags state {run.frames} at {run.fps:g}, so its prompts cannot be placed; use the film as "
            "it was rendered, or give its prompts with --timeline"
        )
    return Film(path, fps, size, _from_tags(run, frames), shot_boundary(run.given, run.stream.chunk), frames)


def _properties(path: str) -> tuple[float, tuple[int, int], int]:
    """Return frames per second, (width, height), and the number of frames that the container claims (0: unknown)."""
    if not os.path.isfile(path):
        raise ValueError(f"there is no film '{path}'")
    with open_footage(path) as footage:
        if not footage.rate:
            raise ValueError(f"'{path}' has no frame rate (is it a picture?); use a video")
        return float(footage.rate), footage.size, footage.claimed


def _from_tags(run: FilmRecord, frames: int) -> tuple[FilmSegment, ...]:
    """Return the segments that begin before the end: the tags of a stopped film describe the whole plan."""
    size = 4 * run.stream.chunk  # pixel frames of a chunk
    segments = [
        FilmSegment(run.start_frame(part["chunk"]), part["text"], part["transition"], size * part.get("blend", 0))
        for part in run.segments
    ]
    return tuple(part for part in segments if not frames or part.start < frames)


def _from_timeline(path: str, text: str, fps: float, frames: int, chunk: int) -> tuple[FilmSegment, ...]:
    if not frames:
        raise ValueError(f"'{path}' does not state its number of frames, which a timeline needs; remux it to MP4")
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
        raise ValueError(f"segments begin at frames {starts}; the first must be 0, and they must increase")
