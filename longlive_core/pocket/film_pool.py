"""Long toybox films for the stages `tune`, `stream` and `teacher`, and excerpts of them.

An excerpt is itself a clip: the film's first chunk, which the sink holds, and a run of later chunks. So the layouts of
`train/causal_start/teacher_forcing.py` train any place of a long film, on contexts that the model rendered itself.

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
from ..vae import WanVAE
from .clip_pool import CHUNK, TrainingClip, boundary, encode_films

FILM_CHUNKS = 14  # 10.3 s
ENCODED_AT_ONCE = 48  # pixel frames: on a CPU twice as fast as a whole film at once
# Chunks at which the prompt changes. Films are rendered in batches, so they share a few patterns.
PATTERNS: tuple[tuple[int, ...], ...] = ((), (), (2, 8), (3, 9), (4,), (5, 10), (6,), (7,))
# The turn of a dot and a slow pulse have little weight in the loss, so films show these actions more often.
FAINT_ACTIONS, FAINT_RATE = ("spin", "pulse"), 0.25


@dataclass
class PoolFilm:
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

    def requested(self, chunk: int) -> Attributes:
        """Return what the prompt of this chunk requests."""
        return [attributes for start, attributes in self.script if start <= chunk][-1]

    def sink_prompt(self, chunk: int) -> Attributes:
        """Return the prompt under which the sink's keys are cached when this chunk is rendered.

        A switch recaches the sink only while the window still covers the film's start.
        """
        return self.requested(min(chunk, LAST_SLOT + 1))


def excerpt(film: PoolFilm, start: int, chunks: int, prompt_chunk: int, own: Tensor | None = None) -> TrainingClip:
    """Cut out the film's first chunk and `chunks - 1` chunks from `start` on, under the prompt of `prompt_chunk`.

    `own` [C, T, h, w] is the same film as the model rendered it; all but the excerpt's last chunk are taken from it.
    """
    numbers = [0, *range(start, start + chunks - 1)]

    def cut(whole: Tensor, dim: int, numbers: list[int] = numbers) -> Tensor:
        return torch.cat([whole.narrow(dim, number * CHUNK, CHUNK) for number in numbers], dim=dim)

    return TrainingClip(
        cut(film.latents, 1),
        cut(film.weight, 0),
        film.sink_prompt(prompt_chunk),
        film.requested(prompt_chunk),
        previous=film.requested(prompt_chunk - 1 if prompt_chunk in film.switches else prompt_chunk),
        own=None if own is None else cut(own, 1, numbers[:-1]),
    )


class FilmPool:
    """Long films by number. Film i follows from (seed, i) and the VAE alone; `grow` encodes more of them.

    Args:
        chunks: length of the films.
        patterns: chunks at which the prompt changes; the films use them in turn.
        in_row: how many films in a row have the same pattern.
        only_action: share of the changes that change the action alone.
    """

    def __init__(
        self,
        vae: WanVAE,
        seed: int,
        chunks: int = FILM_CHUNKS,
        patterns: Sequence[tuple[int, ...]] = PATTERNS,
        in_row: int = 1,
        only_action: float = 0.0,
    ):
        self.vae, self.seed, self.films = vae, seed, []
        self.chunks, self.patterns, self.in_row, self.only_action = chunks, patterns, in_row, only_action

    def grow(self, size: int) -> None:
        """Encode films until there are `size`."""
        while len(self.films) < size:
            self.films.append(self._encoded(len(self.films)))

    def _encoded(self, number: int) -> PoolFilm:
        rng = np.random.default_rng((self.seed, 1, number))
        script = [(0, _often_faint(world.random_attributes(rng), rng))]
        for switch in self.patterns[number // self.in_row % len(self.patterns)]:
            script.append((switch, self._changed(script[-1][1], rng)))
        frames = world.film([(boundary(start), attributes) for start, attributes in script], boundary(self.chunks))
        (encoded,) = encode_films(self.vae, [frames], ENCODED_AT_ONCE)
        return PoolFilm(*encoded, script)

    def _changed(self, before: Attributes, rng: np.random.Generator) -> Attributes:
        if self.only_action and rng.random() < self.only_action:
            return world.changed_action(before, rng)
        return _often_faint(world.changed_attributes(before, rng), rng)


def _often_faint(attributes: Attributes, rng: np.random.Generator) -> Attributes:
    """Return the same attributes, sometimes with one of the actions that are hard to learn."""
    if rng.random() < FAINT_RATE:
        faint = replace(attributes, action=FAINT_ACTIONS[rng.integers(len(FAINT_ACTIONS))])
        if not world.is_held_out(faint):
            return faint
    return attributes
