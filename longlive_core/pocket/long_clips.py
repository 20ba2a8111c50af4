"""Long clips for the stage `tune`: films of 14 chunks with up to two changes of prompt, and windows out of them.

A window is a clip again: the first chunk of the film, which the sink holds, and a run of later chunks. So the plans of
`teacher_forcing.py` train any place of a long film, on contexts that the model filmed itself.

Shapes: C = 16 channels, T latent frames, h, w latent size.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..train.teacher_forcing import LAST_SLOT
from ..vae import WanVAE, encode
from . import world
from .clips import CHUNK, Clip, boundary, latent_weight
from .train_vae import pixels_of
from .world import Attributes

LONG = 14  # chunks, 10.3 s
# Chunks at which the prompt changes. Films are rolled in batches, so they share a few patterns.
PATTERNS: tuple[tuple[int, ...], ...] = ((), (), (2, 8), (3, 9), (4,), (5, 10), (6,), (7,))
# The turn of a dot and a slow swelling weigh little in the loss, so these are shown more often than the other actions.
FAINT_ACTIONS, FAINT_RATE = ("spin", "pulse"), 0.25


@dataclass
class LongClip:
    """One film of the pool.

    Attributes:
        latents: float16 [C, T, h, w].
        weight: float16 [T, h, w], in [0, 1], where the subject is.
        script: (first chunk, attributes) of each prompt.
    """

    latents: Tensor
    weight: Tensor
    script: list[tuple[int, Attributes]]

    @property
    def switches(self) -> tuple[int, ...]:
        return tuple(start for start, _ in self.script[1:])

    def asked(self, chunk: int) -> Attributes:
        """What the prompt of this chunk asks for."""
        return [look for start, look in self.script if start <= chunk][-1]

    def sink_prompt(self, chunk: int) -> Attributes:
        """Under which prompt the sink's keys stand when this chunk is made: recached as long as the window is."""
        early = [look for start, look in self.script if start <= min(chunk, LAST_SLOT + 1)]
        return early[-1]


@dataclass
class Window(Clip):
    """A clip cut out of a long one. `before` is the sink's prompt, `previous` the one before the window's own."""

    previous: Attributes | None = None


def window(clip: LongClip, start: int, chunks: int, asked_at: int) -> Window:
    """The film's first chunk and `chunks - 1` chunks from `start` on, asked for what the film asks at `asked_at`."""
    numbers = [0, *range(start, start + chunks - 1)]

    def cut(whole: Tensor, dim: int) -> Tensor:
        return torch.cat([whole.narrow(dim, number * CHUNK, CHUNK) for number in numbers], dim=dim)

    return Window(cut(clip.latents, 1), cut(clip.weight, 0), clip.sink_prompt(asked_at), clip.asked(asked_at), 0,
                  previous=clip.asked(asked_at - 1 if asked_at in clip.switches else asked_at))  # fmt: skip


class LongPool:
    """Long clips by number; clip i follows from (seed, i) and the VAE alone."""

    def __init__(self, vae: WanVAE, seed: int):
        self.vae, self.seed, self.clips = vae, seed, []

    def grow(self, size: int) -> None:
        """Encode clips until there are `size`."""
        while len(self.clips) < size:
            self.clips.append(self._make(len(self.clips)))

    @torch.no_grad()
    def _make(self, number: int) -> LongClip:
        rng = np.random.default_rng((self.seed, 1, number))
        script = [(0, _often_faint(world.random_attributes(rng), rng))]
        for switch in PATTERNS[number % len(PATTERNS)]:
            before = script[-1][1]
            after = _often_faint(world.changed_attributes(before, rng), rng)
            script.append((switch, after))
        frames, masks = world.film([(boundary(start), look) for start, look in script], boundary(LONG))
        dtype = next(self.vae.parameters()).dtype
        latents = encode(self.vae, pixels_of(frames[None]).to(dtype), group=None)[0]
        return LongClip(latents.half(), latent_weight(torch.from_numpy(masks)).half(), script)


def _often_faint(look: Attributes, rng: np.random.Generator) -> Attributes:
    """The same look, sometimes with one of the actions that are hard to learn."""
    if rng.random() < FAINT_RATE:
        faint = replace(look, action=FAINT_ACTIONS[rng.integers(len(FAINT_ACTIONS))])
        if not world.is_held_out(faint):
            return faint
    return look
