"""Ranges of a take's frames, read from its video or decoded from its latents; only the range is held in memory.

Frames count from the film's start; negative numbers count from the end of its first `chunks` chunks.
"""

from __future__ import annotations

import io

import av
import numpy as np
import torch
from torch import Tensor

from ..cancelling import cancellable, check_cancelled
from ..film.decoding import ShotDecoder
from ..vae import StreamingDecoder
from .chunks import StoredLatents
from .manifest import Manifest
from .store import TakeStore
from .take import check_vae


def stored_frames(store: TakeStore, take: Manifest, chunks: int, first: int, count: int) -> np.ndarray:
    """Return frames of the film's video, uint8 [T, H, W, 3], T <= count. ValueError for a range outside the film."""

    units = list(take.units())

    def read(chunk: int) -> np.ndarray:
        with av.open(io.BytesIO(store.chunks.load_unit(units[chunk]))) as unit:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in unit.decode(video=0)])

    return _collect(take, chunks, first, count, read)


def decoded_frames(
    store: TakeStore, take: Manifest, chunks: int, first: int, count: int, decoder: StreamingDecoder
) -> np.ndarray:
    """Return the same range decoded by the VAE, without video compression. TakeError for another kind of VAE."""
    check_vae(take.vae_width, decoder.width)
    starts = _shot_starts(take)
    decoding: dict[int, ShotDecoder] = {}

    def decode(chunk: int) -> np.ndarray:
        start = max(start for start in starts if start <= chunk)
        if start not in decoding:
            decoding.clear()
            decoding[start] = ShotDecoder(decoder, start)
        shot = take.shots[starts.index(start)]
        return decoding[start].frames(StoredLatents(store.chunks, shot, take.latent_shape), chunk - start)

    try:
        return _collect(take, chunks, first, count, decode)
    finally:
        decoder.reset()


def latents_of(store: TakeStore, take: Manifest, chunks: int, first: int, count: int) -> Tensor:
    """Return latents of the chunks that contain the range, normalised, float32 [1, C, T, h, w] on the CPU."""
    begin, end = _range(take, chunks, first, count)
    latents = StoredLatents(store.chunks, take.keys, take.latent_shape)
    wanted = [chunk for chunk, at, size in _chunks(take, chunks) if at < end and at + size > begin]
    return torch.cat([latents[chunk] for chunk in cancellable(wanted)], dim=2)


def _collect(take: Manifest, chunks: int, first: int, count: int, frames_of) -> np.ndarray:
    begin, end = _range(take, chunks, first, count)
    pieces = []
    for chunk, at, size in _chunks(take, chunks):
        if at < end and at + size > begin:
            check_cancelled()
            pieces.append(frames_of(chunk)[max(0, begin - at) : end - at])
    return np.concatenate(pieces)


def _range(take: Manifest, chunks: int, first: int, count: int) -> tuple[int, int]:
    total = sum(size for _, _, size in _chunks(take, chunks))
    begin = first if first >= 0 else total + first
    if not 0 <= begin < total:
        raise ValueError(
            f"frame {first} is not in the take, which has {total} frames: allowed are {-total} to {total - 1}"
        )
    return begin, min(total, begin + count)


def _chunks(take: Manifest, chunks: int) -> list[tuple[int, int, int]]:
    """Return (chunk, first frame, number of frames) of the film's first chunks."""
    found, at = [], 0
    for unit in take.units():
        found.append((len(found), at, unit.frames))
        at += unit.frames
    return found[:chunks]


def _shot_starts(take: Manifest) -> list[int]:
    starts = [0]
    for shot in take.shots[:-1]:
        starts.append(starts[-1] + len(shot))
    return starts
