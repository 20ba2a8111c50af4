"""Stage `latents`: a growing pool of toybox clips as latents of the trained VAE.

A clip is `CHUNKS` chunks long; in a part of them the prompt changes at a chunk boundary. Its latents are those of the
whole clip in one causal pass, which is what a streaming encoder gives as well.

Shapes: N clips, C = 16 channels, T latent frames, h, w latent size.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..toybox import world
from ..toybox.world import Attributes
from ..vae import WanVAE, encode
from .train_vae import pixels_of

CHUNK = 3  # latent frames
CHUNKS = 6
FRAMES = 12 * CHUNKS - 3


def boundary(chunk: int) -> int:
    """First pixel frame of a chunk."""
    return 0 if chunk == 0 else 12 * chunk - 3


@dataclass
class Clip:
    """One clip of the pool.

    Attributes:
        latents: float16 [C, T, h, w].
        weight: float16 [T, h, w], in [0, 1], where the subject is.
        before, after: what is asked before and from the switch on (the same without a switch).
        switch: chunk at which the prompt changes, 0 for none.
        guesses: the clip's first chunks as the model filmed them itself, float16 [C, T', h, w], once it did.
        guessed_at: the step at which it did.
    """

    latents: Tensor
    weight: Tensor
    before: world.Attributes
    after: world.Attributes
    switch: int
    guesses: Tensor | None = None
    guessed_at: int = 0


class ClipPool:
    """Clips by number; clip i follows from (seed, i) and the VAE alone. `grow` encodes more of them."""

    def __init__(self, vae: WanVAE, seed: int, switch_rate: float = 0.55):
        self.vae, self.seed, self.switch_rate = vae, seed, switch_rate
        self.clips: list[Clip] = []
        self.starts: list[Clip] = []

    def __len__(self) -> int:
        return len(self.clips)

    def grow(self, size: int) -> None:
        """Encode clips until there are `size`."""
        while len(self.clips) < size:
            self.clips.append(self._make(len(self.clips)))

    @torch.no_grad()
    def encode_starts(self, rank: int = 0, ranks: int = 1) -> None:
        """Encode the first chunk of every combination that is in training; of several ranks, each a part of them."""
        looks = [Attributes(*values) for values in itertools.product(*world.TABLES.values())]
        looks = [look for look in looks if not world.is_held_out(look)][rank::ranks]
        dtype = next(self.vae.parameters()).dtype
        for first in range(0, len(looks), 8):
            group = looks[first : first + 8]
            films = [world.film([(0, look)], boundary(1)) for look in group]
            latents = encode(self.vae, pixels_of(np.stack([frames for frames, _ in films])).to(dtype), group=None)
            for look, (_, masks), encoded in zip(group, films, latents, strict=True):
                weight = latent_weight(torch.from_numpy(masks)).half()
                self.starts.append(Clip(encoded.half(), weight, look, look, 0))

    def of_switch(self, switch: int) -> list[int]:
        """Numbers of the clips that switch at this chunk (0: that do not)."""
        return [number for number, clip in enumerate(self.clips) if clip.switch == switch]

    @torch.no_grad()
    def _make(self, number: int) -> Clip:
        rng = np.random.default_rng((self.seed, number))
        before = after = world.random_attributes(rng)
        script, switch = [(0, before)], 0
        if rng.random() < self.switch_rate:
            switch = int(rng.choice([2, 3, 4], p=[0.2, 0.2, 0.6]))
            after = world.changed_attributes(before, rng)
            script.append((boundary(switch), after))
        frames, masks = world.film(script, FRAMES)
        dtype = next(self.vae.parameters()).dtype
        latents = encode(self.vae, pixels_of(frames[None]).to(dtype), group=None)[0]
        return Clip(latents.half(), latent_weight(torch.from_numpy(masks)).half(), before, after, switch)


def latent_weight(masks: Tensor) -> Tensor:
    """Subject masks [frames, H, W] -> their largest value inside each latent cell, [T, h, w]."""
    cells = F.max_pool2d(masks[:, None], 8)[:, 0]
    later = cells[1:].unflatten(0, (-1, 4)).amax(dim=1)
    return torch.cat([cells[:1], later])
