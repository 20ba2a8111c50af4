"""Streams: minutes of film that the model makes from its own cache while it learns, for the stage `stream`.

This is streaming long tuning (LongLive, section 3.2) with the toybox itself as the teacher: several films are rolled
on from the stored cache, a few chunks at a time, through changes of prompt with KV recache, and the newest windows are
what the model learns to go on from. A true film exists to the end of every stream, so no second model has to judge it.
Where a chunk has left the truth too far (the subject lost, or out of step), the true one is fed instead and the stream
goes on.

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
from .clip_pool import CHUNK
from .curriculum import PLACES, Place
from .long_clip_pool import LongClip, LongPool, Window, subject_error, window
from .train_dit import STREAM

STREAM_CHUNKS = 48  # 36 s
# Chunks at which the prompt changes. All streams of a batch share one; a change leaves the window before it and the
# four chunks from it on to one prompt each.
STREAM_PATTERNS: tuple[tuple[int, ...], ...] = (
    (7, 19, 33),
    (6, 13, 20, 27, 34, 41),
    (),
    (9, 15, 24, 38),
    (24,),
    (5, 11, 17, 23, 29, 35, 41),
    (16, 21, 37),
    (12, 30),
    (6, 14, 22, 31, 40),
    (),
    (10, 28, 36),
    (8, 12, 16, 20, 24, 28, 32, 36, 40, 44),
)
ONLY_ACTION = 0.5  # share of the changes that leave subject and setting, as the paper's follow-ups do


class Streams:
    """B films side by side, rolled on a few chunks at a time; new ones begin when they are over.

    Args:
        wan: the model, as its weights are now.
        contexts: text embeddings [B, text tokens, text_dim] of what is asked.
        pool: the true films, with `STREAM_PATTERNS`.
        size: B.
        near: largest error of an own chunk, weighted by the subject, that is gone on from.
        rng: of every choice.
    """

    def __init__(
        self,
        wan: CausalWan,
        contexts: Callable[[list[Attributes]], Tensor],
        pool: LongPool,
        size: int,
        near: float,
        rng: np.random.Generator,
    ):
        self.wan, self.contexts, self.pool, self.size, self.near, self.rng = wan, contexts, pool, size, near, rng
        self.clips: list[LongClip] = []
        self.chunk = STREAM_CHUNKS  # of the next one; so many: new films begin

    @torch.no_grad()
    def advance(self, chunks: int, step: int) -> tuple[list[tuple[Place, Window]], float]:
        """Film the next chunks. -> the windows that are complete now, and the share of chunks that stayed near."""
        if self.chunk + chunks > STREAM_CHUNKS:
            self._begin()
        else:  # the words and the weights that read them are newer than the cache
            self.shot.prompt = self.wan.prompt_keys(self._asked(self.chunk - 1))
        first, near = self.chunk, []
        for _ in range(chunks):
            if self.chunk in (0, *self.clips[0].switches):
                transition = "recache" if self.chunk else "cut"
                self.shot.switch(self._asked(self.chunk), transition, nothing)
            near.append(self._next_chunk())
            self.chunk += 1
        return self._windows(range(first, self.chunk), step), float(np.mean(near))

    def _begin(self) -> None:
        pattern = self.pool.clips[self.rng.integers(len(self.pool.clips))].switches
        fitting = [clip for clip in self.pool.clips if clip.switches == pattern]
        chosen = self.rng.choice(len(fitting), size=self.size, replace=len(fitting) < self.size)
        self.clips = [fitting[number] for number in chosen]
        self.truth = torch.stack([clip.latents for clip in self.clips])
        self.made = torch.zeros_like(self.truth)
        self.noise = AddressedNoise([int(self.rng.integers(2**31)) for _ in self.clips])
        self.shot = Shot(self.wan, STREAM, tuple(self.truth.shape[-2:]), self.size, capacity=CHUNK * STREAM_CHUNKS)
        self.chunk = 0

    def _asked(self, chunk: int) -> Tensor:
        return self.contexts([clip.asked(chunk) for clip in self.clips])

    def _next_chunk(self) -> float:
        """Film one chunk; returns the share of streams that stayed near the truth."""
        place = slice(CHUNK * self.chunk, CHUNK * (self.chunk + 1))
        span, last = self.shot.cache.next_chunk(), len(self.shot.timesteps) - 1
        own = self.shot.rounded(self.shot.predict(span, self.shot.noisy_input(span, self.noise, last, nothing), last))
        truth = self.truth[:, :, place].float()
        weight = torch.stack([clip.weight[place] for clip in self.clips]).float()
        near = torch.stack([subject_error(*row) for row in zip(own, truth, weight, strict=True)]) <= self.near
        fed = torch.where(near[:, None, None, None, None], own, truth)
        self.shot.feed(fed)
        self.made[:, :, place] = fed.half()
        return float(near.float().mean())

    def _windows(self, new: Sequence[int], step: int) -> list[tuple[Place, Window]]:
        """Every window that ends with one of the `new` chunks."""
        found = []
        for clip, made in zip(self.clips, self.made, strict=True):
            for place in PLACES:
                for start, asked_at in place.spots(clip):
                    if start + place.plan.chunks - 2 in new:
                        cut = window(clip, start, place.plan.chunks, asked_at, made)
                        cut.guessed_at = step
                        found.append((place, cut))
        return found
