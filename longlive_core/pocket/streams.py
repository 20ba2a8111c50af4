"""Streams: minutes of film that the model renders from its own cache while it learns, for the stage `stream`.

This is streaming long tuning (LongLive, section 3.2) with the toybox itself as the teacher. Several films are extended
from the stored cache, a few chunks at a time, through prompt switches with KV recache, and the model learns to continue
the newest excerpts. A true film of the full length exists for every stream, so no second model has to judge it. Where a
chunk is too far from the truth (the subject is lost, or out of phase), the true chunk replaces it and the stream
continues.

Shapes: B streams, C channels, T latent frames, h, w latent size.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..engine.noise import AddressedNoise
from ..engine.shot import Shot
from ..model import CausalWan
from ..toybox.world import Attributes
from ..train.distillation.self_forcing import nothing
from .clip_pool import CHUNK, TrainingClip
from .curriculum import EXCERPT_KINDS, ExcerptKind
from .film_pool import FilmPool, PoolFilm, excerpt
from .own_films import subject_error
from .training import POCKET


class Streams:
    """B films side by side, extended by a few chunks at a time; when they end, new ones begin.

    Args:
        wan: the model, with its current weights.
        contexts: text embeddings [B, text tokens, text_dim] of requested attributes.
        pool: the true films.
        size: B.
        near: largest error of an own chunk, weighted by the subject, from which the stream continues.
        rng: of every choice.
    """

    def __init__(
        self,
        wan: CausalWan,
        contexts: Callable[[list[Attributes]], Tensor],
        pool: FilmPool,
        size: int,
        near: float,
        rng: np.random.Generator,
    ):
        self.wan, self.contexts, self.pool, self.size, self.near, self.rng = wan, contexts, pool, size, near, rng
        self.films: list[PoolFilm] = []
        self.chunk = pool.chunks  # the next one to render; at the films' length, new films begin

    @torch.no_grad()
    def advance(self, chunks: int, step: int) -> tuple[dict[ExcerptKind, list[TrainingClip]], float]:
        """Render the next chunks. Return the excerpts that are now complete, and the share of chunks that are near."""
        if self.chunk + chunks > self.pool.chunks:
            self._begin()
        else:  # the prompt's words and the weights that read them are newer than the cache
            self.shot.prompt = self.wan.prompt_keys(self._context(self.chunk - 1))
        first, near = self.chunk, []
        for _ in range(chunks):
            if self.chunk in (0, *self.films[0].switches):
                transition = "recache" if self.chunk else "cut"
                self.shot.switch(self._context(self.chunk), transition, nothing)
            near.append(self._next_chunk())
            self.chunk += 1
        return self._excerpts(range(first, self.chunk), step), float(np.mean(near))

    def _begin(self) -> None:
        pattern = self.pool.films[self.rng.integers(len(self.pool.films))].switches
        fitting = [film for film in self.pool.films if film.switches == pattern]
        chosen = self.rng.choice(len(fitting), size=self.size, replace=len(fitting) < self.size)
        self.films = [fitting[number] for number in chosen]
        self.truth = torch.stack([film.latents for film in self.films])
        self.own = torch.zeros_like(self.truth)
        self.noise = AddressedNoise([int(self.rng.integers(2**31)) for _ in self.films])
        self.shot = Shot(self.wan, POCKET, tuple(self.truth.shape[-2:]), self.size, capacity=CHUNK * self.pool.chunks)
        self.chunk = 0

    def _context(self, chunk: int) -> Tensor:
        return self.contexts([film.requested(chunk) for film in self.films])

    def _next_chunk(self) -> float:
        """Render one chunk; return the share of streams that are near the truth."""
        place = slice(CHUNK * self.chunk, CHUNK * (self.chunk + 1))
        span, last = self.shot.cache.next_chunk(), len(self.shot.timesteps) - 1
        own = self.shot.rounded(self.shot.predict(span, self.shot.noisy_input(span, self.noise, last, nothing), last))
        truth = self.truth[:, :, place].float()
        weight = torch.stack([film.weight[place] for film in self.films]).float()
        near = torch.stack([subject_error(*row) for row in zip(own, truth, weight, strict=True)]) <= self.near
        fed = torch.where(near[:, None, None, None, None], own, truth)
        self.shot.feed(fed)
        self.own[:, :, place] = fed.half()
        return float(near.float().mean())

    def _excerpts(self, new: Sequence[int], step: int) -> dict[ExcerptKind, list[TrainingClip]]:
        """Cut out every excerpt that ends with one of the `new` chunks."""
        complete: dict[ExcerptKind, list[TrainingClip]] = {kind: [] for kind in EXCERPT_KINDS}
        for film, own in zip(self.films, self.own, strict=True):
            for kind in EXCERPT_KINDS:
                for start, prompt_chunk in kind.spots(film):
                    if start + kind.layout.chunks - 2 in new:
                        clip = excerpt(film, start, kind.layout.chunks, prompt_chunk, own)
                        clip.rendered_at = step
                        complete[kind].append(clip)
        return complete
