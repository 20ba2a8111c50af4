"""Decode an MP4: its frames, tags and encoded packets."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import av
import numpy as np


@dataclass
class DecodedFilm:
    """frames: uint8 [T, H, W, 3]. seconds, tags: from the container. packets: SHA-256 of the encoded video's bytes."""

    frames: np.ndarray
    seconds: float
    tags: dict[str, str]
    packets: str

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[2], self.frames.shape[1]

    def looks_alive(self) -> bool:
        """Return whether the film is neither black nor of one colour nor frozen."""
        steps = np.abs(np.diff(self.frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
        return self.frames.mean() > 8 and self.frames.std() > 8 and float((steps > 0.05).mean()) > 0.5


def read(content: bytes) -> DecodedFilm:
    with av.open(io.BytesIO(content)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        seconds, tags = container.duration / av.time_base, dict(container.metadata)
    return DecodedFilm(frames, seconds, tags, packets(content))


def packets(content: bytes) -> str:
    digest = hashlib.sha256()
    with av.open(io.BytesIO(content)) as container:
        for packet in container.demux(video=0):
            digest.update(bytes(packet))
    return digest.hexdigest()
