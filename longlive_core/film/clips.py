"""Pictures and clips as a film begins with them: at its size and its frame rate."""

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
from .pictures import Say, Shown, cropping_note, read_pictures

logger = logging.getLogger(__name__)

MOST_FRAMES = 1920  # two minutes at 16 frames a second; a longer clip would fill memory before it is encoded


def read_clip(path: str | os.PathLike, size: tuple[int, int], fps: float, say: Say = logger.warning) -> Tensor:
    """The frames of a picture or a video, [T, H, W, 3] in [0, 1], scaled to (width, height) and cropped in the middle.

    A video or an animation is brought to `fps` frames a second by leaving frames out or showing them again: as many as
    it lasts, from its first picture on. say: is told what would not be expected of the file (by default it is logged).
    ValueError for a file that is neither, cannot be read as it is meant, or is too long.
    """
    if os.path.isdir(path):
        raise ValueError(f"'{path}' is a folder; give a picture or a video (frames in a folder: put them into one)")
    if not os.path.isfile(path):
        raise ValueError(f"there is no file '{path}' to begin the film with")
    pictures = read_pictures(path, say)
    if pictures is not None:
        frames = _resampled(pictures, path, size, fps, say)
    else:
        with open_footage(path, "neither a picture nor a video") as footage:
            frames = _resampled(footage.shown(), path, size, fps, say)
            for note in footage.notes:
                say(note)
    return torch.from_numpy(np.stack(frames)).float() / 255


def _resampled(shown: Iterable[Shown], path, size: tuple[int, int], fps: float, say: Say) -> list[np.ndarray]:
    """Frame k is the picture that stands nearest to k / fps, and stays until the next one."""
    frames: list[np.ndarray] = []
    standing: np.ndarray | None = None
    before, gaps, last = 0.0, [], None

    def fill(count: int, until: float) -> None:
        if count > MOST_FRAMES:
            where = (
                f"from {before:.2f} s to {until:.2f} s the same picture stands; cut that out"
                if (count - len(frames) > MOST_FRAMES // 2)
                else "give the last seconds of it"
            )
            raise ValueError(f"'{path}' has more than {MOST_FRAMES} frames at {fps:g} a second; {where}")
        frames.extend([standing] * (count - len(frames)))

    for image, time, lasts in shown:
        if standing is None and (told := cropping_note(f"'{path}'", image.size, size)) is not None:
            say(told)
        if standing is not None:
            gaps.append(time - before)
            early = min(1 / fps, gaps[-1]) / 2
            fill(max(len(frames), math.ceil((time - early) * fps - 1e-6)), time)
        standing, before, last = _fitted(image, size), time, lasts
    if standing is None:
        raise ValueError(f"'{path}' holds no picture")
    if not gaps:
        return [standing]
    usual = sorted(gaps)[len(gaps) // 2]
    if last is None or last < usual / 2:  # what a rate says that is none
        last = usual
    fill(max(1, len(frames), round((before + last) * fps)), before + last)
    return frames


def _fitted(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))
