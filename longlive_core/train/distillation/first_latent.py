"""A clip out of a film begins with a picture, as models of short clips know it.

Wan's VAE makes a film's first latent of one picture and every other one of four. Where a clip out of a film is shown to
a model of short clips (a score of the distillation, or the pocket model's teacher in training), its first latent is
made again of its last picture (Self-Forcing's and LongLive's code).

Shapes: B films, C channels, h, w latent size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...vae import StreamingDecoder, WanVAE, encode

AsImage = Callable[[Tensor], Tensor]
"""Latent frames of a film [B, C, up to 1 + HISTORY, h, w] -> the latent [B, C, 1, h, w] of the last one's last picture
alone."""

HISTORY = 5
"""Latent frames that are decoded before a clip's first picture.

Without any (LongLive's code) the pocket VAE's picture is off by 0.39 on average, with 1 by 0.07, with 3 by 0.014, with
5 by 0.004; pixels are from -1 to 1.
"""


def image_latents(vae: WanVAE) -> AsImage:
    """By way of the pixels."""

    @torch.no_grad()
    def as_image(latents: Tensor) -> Tensor:
        decoder = StreamingDecoder(vae)
        for latent in latents.split(1, dim=2):  # one by one: pixels of one latent frame in memory
            pixels = decoder.decode(latent)
        return encode(vae, pixels[:, :, -1:].clamp(-1, 1)).to(latents)

    return as_image
