"""The first latent frame of a clip cut out of a film, re-encoded from a single picture.

Wan's VAE encodes a film's first latent frame from one picture and every other one from four. A model of short clips (a
score of the distillation, or the pocket model's teacher in training) knows only the former. So when it gets a clip from
inside a film, the clip's first latent frame is re-encoded from its last picture alone (as in Self-Forcing's and
LongLive's code).

Shapes: B films, C channels, h, w latent size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...vae import StreamingDecoder, WanVAE, encode

AsImage = Callable[[Tensor], Tensor]
"""Latent frames of a film [B, C, up to 1 + HISTORY, h, w] -> the latent frame [B, C, 1, h, w] of the last picture
alone."""

HISTORY = 5
"""Number of latent frames that are decoded before a clip's first picture.

With none (LongLive's code) the pocket VAE's picture is off by 0.39 on average, with 1 by 0.07, with 3 by 0.014, with
5 by 0.004; pixels are in [-1, 1].
"""


def image_latents(vae: WanVAE) -> AsImage:
    """Return an `AsImage` that decodes to pixels and encodes the last picture."""

    @torch.no_grad()
    def as_image(latents: Tensor) -> Tensor:
        decoder = StreamingDecoder(vae)
        for latent in latents.split(1, dim=2):  # one by one: only one latent frame's pixels in memory
            pixels = decoder.decode(latent)
        return encode(vae, pixels[:, :, -1:].clamp(-1, 1)).to(latents)

    return as_image
