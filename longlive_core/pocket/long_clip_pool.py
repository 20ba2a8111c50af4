"""Long clips for the stage `tune`: films of 14 chunks with up to two changes of prompt, and windows out of them.

A window is a clip again: the first chunk of the film, which the sink holds, and a run of later chunks. So the plans of
`teacher_forcing.py` train any place of a long film, on contexts that the model filmed itself.

Shapes: C = 16 channels, T latent frames, h, w latent size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..toybox import world
from ..toybox.world import Attributes
from ..train.causal_start.teacher_forcing import LAST_SLOT
from ..vae import WanVAE, encode
from .clip_pool import CHUNK, Clip, boundary, latent_weight
from .train_vae import pixels_of

LONG = 14  # chunks, 10.3 s
ENCODED_AT_ONCE = 48  # pixel frames: on a CPU twice as fast as a whole film at once
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
    def chunks(self) -> int:
        return self.latents.shape[1] // CHUNK

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


def window(clip: LongClip, start: int, chunks: int, asked_at: int, made: Tensor | None = None) -> Window:
    """The film's first chunk and `chunks - 1` chunks from `start` on, asked for what the film asks at `asked_at`.

    `made` [C, T, h, w]: the same film as the model made it; all but the last chunk of the window are its guesses.
    """
    numbers = [0, *range(start, start + chunks - 1)]

    def cut(whole: Tensor, dim: int, numbers: list[int] = numbers) -> Tensor:
        return torch.cat([whole.narrow(dim, number * CHUNK, CHUNK) for number in numbers], dim=dim)

    return Window(
        cut(clip.latents, 1),
        cut(clip.weight, 0),
        clip.sink_prompt(asked_at),
        clip.asked(asked_at),
        0,
        guesses=None if made is None else cut(made, 1, numbers[:-1]),
        previous=clip.asked(asked_at - 1 if asked_at in clip.switches else asked_at),
    )


def subject_error(made: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean square of made - true latents [C, T, h, w] where the subject is (weight [T, h, w]); a scalar."""
    return ((made - truth).square().mean(dim=0) * weight).sum() / weight.sum().clamp(min=1e-3)


class LongPool:
    """Long clips by number; clip i follows from (seed, i) and the VAE alone.

    Args:
        chunks: length of the films.
        patterns: at which chunks the prompt changes; films take turns with them.
        in_row: how many films in a row have the same one.
        only_action: share of the changes in which nothing but the action is another.
    """

    def __init__(
        self,
        vae: WanVAE,
        seed: int,
        chunks: int = LONG,
        patterns: Sequence[tuple[int, ...]] = PATTERNS,
        in_row: int = 1,
        only_action: float = 0.0,
    ):
        self.vae, self.seed, self.clips = vae, seed, []
        self.chunks, self.patterns, self.in_row, self.only_action = chunks, patterns, in_row, only_action

    def grow(self, size: int) -> None:
        """Encode clips until there are `size`."""
        while len(self.clips) < size:
            self.clips.append(self._make(len(self.clips)))

    @torch.no_grad()
    def _make(self, number: int) -> LongClip:
        rng = np.random.default_rng((self.seed, 1, number))
        script = [(0, _often_faint(world.random_attributes(rng), rng))]
        for switch in self.patterns[number // self.in_row % len(self.patterns)]:
            script.append((switch, self._changed(script[-1][1], rng)))
        frames, masks = world.film([(boundary(start), look) for start, look in script], boundary(self.chunks))
        dtype = next(self.vae.parameters()).dtype
        latents = encode(self.vae, pixels_of(frames[None]).to(dtype), ENCODED_AT_ONCE)[0]
        return LongClip(latents.half(), latent_weight(torch.from_numpy(masks)).half(), script)

    def _changed(self, before: Attributes, rng: np.random.Generator) -> Attributes:
        if self.only_action and rng.random() < self.only_action:
            return world.changed_action(before, rng)
        return _often_faint(world.changed_attributes(before, rng), rng)


def _often_faint(look: Attributes, rng: np.random.Generator) -> Attributes:
    """The same look, sometimes with one of the actions that are hard to learn."""
    if rng.random() < FAINT_RATE:
        faint = replace(look, action=FAINT_ACTIONS[rng.integers(len(FAINT_ACTIONS))])
        if not world.is_held_out(faint):
            return faint
    return look
