"""Decoding chunks of latents to frames, one chunk at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..device.placement import Offloader
from ..engine.nonfinite import check_pixels, is_finite
from ..engine.rollout import Chunk
from ..vae import StreamingDecoder

logger = logging.getLogger(__name__)

DECODER_REACH = 40  # latent frames after which earlier ones no longer influence Wan's VAE decoder, to the last bit


class Latents(Protocol):
    """Latents of a shot's chunks by their number."""

    def __getitem__(self, chunk: int) -> Tensor: ...


def to_frames(pixels: Tensor) -> np.ndarray:
    """Convert float pixels [1, 3, T, H, W] in about [-1, 1] to uint8 frames [T, H, W, 3], on the pixels' device."""
    scaled = pixels[0].float().add(1).mul(127.5).round().clamp_(0, 255).to(torch.uint8)
    return scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy()


class ShotDecoder:
    """Decodes chunks of a shot, in increasing order with gaps, as exactly as if all of them were decoded.

    If the numbers of a shot overflow float16, it is decoded in float32 from that chunk on, with a warning.

    Args:
        start: number of the shot's first chunk in the film.
    """

    def __init__(self, decoder: StreamingDecoder, start: int):
        self.decoder, self.start, self.at = decoder, start, -1

    def frames(self, latents: Latents, index: int) -> np.ndarray:
        """Return the frames of a chunk of the shot, uint8 [T, H, W, 3].

        latents: chunk of the shot -> [1, 16, T, h, w]; read for this chunk, and for the `DECODER_REACH` latent frames
        before it if the decoder is not positioned there. NonFiniteError if the VAE's pixels are not finite.
        """
        pixels = self._decode(latents, index)
        if self.decoder.dtype is torch.float16 and not is_finite(pixels):
            logger.warning(
                "the VAE's numbers overflow float16 in chunk %d: it computes in float32 from here on, which "
                "takes twice the memory",
                self.start + index,
            )
            self.decoder.use_float32()
            self.at = -1
            pixels = self._decode(latents, index)
        check_pixels(pixels, self.start + index)
        return to_frames(pixels)

    def _decode(self, latents: Latents, index: int) -> Tensor:
        if index != self.at:
            self.decoder.reset()
            for before in range(max(0, index - reach(latents[index].shape[2])), index):
                self.decoder.decode(latents[before])
        self.at = -1  # until this chunk is complete: if interrupted, the decoder must start again
        pixels = self.decoder.decode(latents[index])
        self.at = index + 1
        return pixels


def reach(chunk: int) -> int:
    """Return how many chunks of `chunk` latent frames influence the decoder."""
    return math.ceil(DECODER_REACH / chunk)


def film_frames(
    chunks: Iterable[Chunk],
    decoder: StreamingDecoder,
    offloader: Offloader | None = None,
) -> Iterator[tuple[Chunk, np.ndarray]]:
    """Decode chunks as they arrive; yield each with its frames, uint8 [T, H, W, 3] (batch 1). A cut resets the VAE.

    offloader: that of the chunks' rollout, if parts move to main memory between chunks. Raises NonFiniteError if the
    VAE's pixels hold NaN or infinity.
    """
    shot, recent = None, {}
    for chunk in chunks:
        if shot is None or chunk.first_of_shot:
            shot = ShotDecoder(decoder, chunk.index - chunk.index_in_shot)
            shot.at = chunk.index_in_shot or -1  # a resumed film finds the decoder where it was
            recent.clear()
        if offloader is not None:
            offloader.before_decoding()
        recent[chunk.index_in_shot] = chunk.latents
        recent.pop(chunk.index_in_shot - reach(chunk.latents.shape[2]) - 1, None)
        yield chunk, shot.frames(recent, chunk.index_in_shot)
