"""Pictures and clips as a film begins with them: at its size and its frame rate."""

from __future__ import annotations

import os

import av
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

MOST_FRAMES = 1920  # two minutes at 16 frames a second; a longer clip would fill memory before it is encoded


def read_clip(path: str | os.PathLike, size: tuple[int, int], fps: float) -> Tensor:
    """The frames of a picture or a video, [T, H, W, 3] in [0, 1], scaled to (width, height) and cropped in the middle.

    A video is brought to `fps` frames a second by leaving frames out or showing them again. ValueError for a file that
    is neither, or is too long.
    """
    if not os.path.isfile(path):
        raise ValueError(f"there is no file '{path}' to begin the film with")
    frames: list[np.ndarray] = []
    try:
        with av.open(os.fspath(path)) as container:
            for picture in container.decode(video=0):
                due = 1 if picture.time is None else int(picture.time * fps + 1e-6) + 1
                while len(frames) < max(due, 1):
                    frames.append(_fitted(picture, size))
                    if len(frames) > MOST_FRAMES:
                        raise ValueError(f"'{path}' has more than {MOST_FRAMES} frames at {fps:g} a second; give the "
                                         "last seconds of it")  # fmt: skip
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"'{path}' is neither a picture nor a video that can be read ({error})") from error
    if not frames:
        raise ValueError(f"'{path}' holds no picture")
    return torch.from_numpy(np.stack(frames)).float() / 255


def _fitted(picture: av.VideoFrame, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(picture.to_ndarray(format="rgb24"))
    return np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))
