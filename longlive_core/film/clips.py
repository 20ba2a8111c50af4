"""Pictures and clips that a film starts from, at the film's size and frame rate."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .footage import open_footage
from .pictures import Picture, Say, cropping_note, read_pictures

logger = logging.getLogger(__name__)

MOST_FRAMES = 1920  # two minutes at 16 frames a second; a longer clip would fill memory before it is encoded


def read_clip(path: str | os.PathLike, size: tuple[int, int], fps: float, say: Say = logger.warning) -> Tensor:
    """Return the frames of a picture or a video, [T, H, W, 3] in [0, 1], scaled and cropped to (width, height).

    A video or an animation is converted to `fps` frames per second by dropping or repeating frames; its duration stays.
    say: called with a note for anything unexpected about the file (by default it is logged). ValueError for a file that
    is neither, cannot be read correctly, or is too long.
    """
    if os.path.isdir(path):
        raise ValueError(f"'{path}' is a folder; give a picture or a video (make a video of frames in a folder)")
    if not os.path.isfile(path):
        raise ValueError(f"there is no file '{path}' to start the film from")
    pictures = read_pictures(path, say)
    if pictures is not None:
        frames = _resampled(pictures, path, size, fps, say)
    else:
        with open_footage(path, "neither a picture nor a video") as footage:
            frames = _resampled(footage.pictures(), path, size, fps, say)
            for note in footage.notes:
                say(note)
    return torch.from_numpy(np.stack(frames)).float() / 255


def _resampled(pictures: Iterable[Picture], path, size: tuple[int, int], fps: float, say: Say) -> list[np.ndarray]:
    """Return frames: frame k is the picture whose time is nearest to k / fps; each picture is held until the next."""
    frames: list[np.ndarray] = []
    held: np.ndarray | None = None
    before, gaps, last = 0.0, [], None

    def fill(count: int, until: float) -> None:
        if count > MOST_FRAMES:
            where = (
                f"from {before:.2f} s to {until:.2f} s the picture does not change; cut that out"
                if (count - len(frames) > MOST_FRAMES // 2)
                else "give only its last seconds"
            )
            raise ValueError(f"'{path}' has more than {MOST_FRAMES} frames at {fps:g} a second; {where}")
        frames.extend([held] * (count - len(frames)))

    for image, time, lasts in pictures:
        if held is None and (note := cropping_note(f"'{path}'", image.size, size)) is not None:
            say(note)
        if held is not None:
            gaps.append(time - before)
            early = min(1 / fps, gaps[-1]) / 2
            fill(max(len(frames), math.ceil((time - early) * fps - 1e-6)), time)
        held, before, last = _fitted(image, size), time, lasts
    if held is None:
        raise ValueError(f"'{path}' contains no picture")
    if not gaps:
        return [held]
    usual = sorted(gaps)[len(gaps) // 2]
    if last is None or last < usual / 2:  # not a plausible duration
        last = usual
    fill(max(1, len(frames), round((before + last) * fps)), before + last)
    return frames


def _fitted(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))
