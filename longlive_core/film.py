"""From chunks of latents to pictures, one chunk at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from .nonfinite import check_pixels
from .placement import Turns
from .rollout import Chunk
from .vae import StreamingDecoder


def to_frames(pixels: Tensor) -> np.ndarray:
    """Float pixels [1, 3, T, H, W] in about [-1, 1] -> uint8 frames [T, H, W, 3]; rounded where the pixels are."""
    scaled = pixels[0].float().add(1).mul(127.5).round().clamp_(0, 255).to(torch.uint8)
    return scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy()


def film_frames(chunks: Iterable[Chunk], decoder: StreamingDecoder, turns: Turns | None = None,
                ) -> Iterator[tuple[Chunk, np.ndarray]]:  # fmt: skip
    """Decode chunks as they come: yields each with its frames, uint8 [T, H, W, 3] (batch 1). A cut resets the VAE.

    turns: the ones that the rollout of the chunks has, where something moves in between.

    Raises NonFiniteError where the VAE's pixels hold NaN or infinity.
    """
    for chunk in chunks:
        if chunk.first_of_shot:
            decoder.reset()
        if turns is not None:
            turns.decoding()
        pixels = decoder.decode(chunk.latents)
        check_pixels(pixels, chunk.index)
        yield chunk, to_frames(pixels)
