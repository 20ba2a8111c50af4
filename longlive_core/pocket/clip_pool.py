"""Toybox films as latents of the trained VAE, and the pool of clips that the stage `dit` trains on.

A clip of the pool is `CHUNKS` chunks long; in some of them the prompt changes at a chunk boundary. The latents are
those of the whole clip in one causal pass, which a streaming encoder returns as well.

Shapes: B films, N clips, C = 16 channels, T latent frames, h, w latent size, H, W pixels.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..timeline.plan import shot_boundary
from ..toybox import world
from ..toybox.world import Attributes
from ..vae import WanVAE, encode

CHUNK = 3  # latent frames
CHUNKS = 6
FRAMES = 12 * CHUNKS - 3


def boundary(chunk: int) -> int:
    """Return the first pixel frame of a chunk."""
    return shot_boundary(chunk, CHUNK)


def pixels_of(frames: np.ndarray) -> Tensor:
    """Convert uint8 frames [B, T, H, W, 3] to float pixels [B, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def latent_weight(masks: Tensor) -> Tensor:
    """Reduce subject masks [frames, H, W] to their largest value inside each latent cell, [T, h, w]."""
    cells = F.max_pool2d(masks[:, None], 8)[:, 0]
    later = cells[1:].unflatten(0, (-1, 4)).amax(dim=1)
    return torch.cat([cells[:1], later])


@torch.no_grad()
def encode_films(
    vae: WanVAE, films: Sequence[tuple[np.ndarray, np.ndarray]], group: int | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Encode films of one length, as (frames, masks), to (latents [C, T, h, w], weight [T, h, w]), both float16.

    `group` is how many pixel frames are encoded at once; None: all of them.
    """
    pixels = pixels_of(np.stack([frames for frames, _ in films])).to(next(vae.parameters()).dtype)
    latents = encode(vae, pixels, group=group)
    weights = [latent_weight(torch.from_numpy(masks)) for _, masks in films]
    return [(film.half(), weight.half()) for film, weight in zip(latents, weights, strict=True)]


@dataclass
class TrainingClip:
    """A clip that a step trains on.

    Attributes:
        latents: float16 [C, T, h, w], the true ones.
        weight: float16 [T, h, w], in [0, 1], where the subject is.
        before: what the prompt before the switch requests; deep in a film, what the sink was cached under.
        after: what the prompt from the switch on requests (the same without a switch).
        switch: chunk at which the prompt changes, 0 for none.
        previous: what the prompt just before the switch requests; for clips out of long films only.
        own: the clip's first chunks as rendered by the model itself, float16 [C, T', h, w]; None before that.
        rendered_at: the step at which the model rendered them.
    """

    latents: Tensor
    weight: Tensor
    before: Attributes
    after: Attributes
    switch: int = 0
    previous: Attributes | None = None
    own: Tensor | None = None
    rendered_at: int = 0


class ClipPool:
    """Clips by number. Clip i follows from (seed, i) and the VAE alone; `grow` encodes more of them."""

    def __init__(self, vae: WanVAE, seed: int, switch_rate: float = 0.55):
        self.vae, self.seed, self.switch_rate = vae, seed, switch_rate
        self.clips: list[TrainingClip] = []
        self.starts: list[TrainingClip] = []

    def grow(self, size: int) -> None:
        """Encode clips until there are `size`."""
        while len(self.clips) < size:
            self.clips.append(self._encoded(len(self.clips)))

    def encode_starts(self, rank: int = 0, ranks: int = 1) -> None:
        """Encode the first chunk of every combination in training; each of several ranks encodes its share of them."""
        combinations = [Attributes(*values) for values in itertools.product(*world.TABLES.values())]
        combinations = [one for one in combinations if not world.is_held_out(one)][rank::ranks]
        for first in range(0, len(combinations), 8):
            group = combinations[first : first + 8]
            films = [world.film([(0, attributes)], boundary(1)) for attributes in group]
            for attributes, encoded in zip(group, encode_films(self.vae, films), strict=True):
                self.starts.append(TrainingClip(*encoded, attributes, attributes))

    def of_switch(self, switch: int) -> list[int]:
        """Return the numbers of the clips whose prompt changes at this chunk (0: never)."""
        return [number for number, clip in enumerate(self.clips) if clip.switch == switch]

    def _encoded(self, number: int) -> TrainingClip:
        rng = np.random.default_rng((self.seed, number))
        before = after = world.random_attributes(rng)
        script, switch = [(0, before)], 0
        if rng.random() < self.switch_rate:
            switch = int(rng.choice([2, 3, 4], p=[0.2, 0.2, 0.6]))
            after = world.changed_attributes(before, rng)
            script.append((boundary(switch), after))
        (encoded,) = encode_films(self.vae, [world.film(script, FRAMES)])
        return TrainingClip(*encoded, before, after, switch)
