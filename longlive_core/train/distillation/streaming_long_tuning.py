"""Streaming long tuning: a film is extended clip by clip, with a loss on the newest clip only (LongLive, section 3.3).

The student continues from its cache. The scores see each clip as a short clip, with the few frames before it as
context; everything earlier is a constant that only the rolling cache holds. So a step costs the same time and memory in
the film's first minute and in its fourth. At one clip boundary, drawn at random, the prompt changes: the cache is
recached under the new prompt exactly as in a rollout, and from this clip on the teacher is conditioned on the new
prompt.

The short distillation is the special case of films of one clip.

Shapes: B films, C channels, T latent frames, h, w latent size. Lengths are in latent frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...engine.cache import Snapshot
from ...engine.noise import AddressedNoise
from .first_latent import HISTORY, AsImage
from .self_forcing import RolledClip, ShotState, StudentShot, nothing


@dataclass(frozen=True)
class Lengths:
    """Lengths of clips and films. The defaults are the paper's: 21 frames, 18 of them new, films of up to 240.

    Attributes:
        clip: frames that the scores see.
        new: number of these that are new, in every clip but the first.
        longest: maximum length of a film.
    """

    clip: int = 21
    new: int = 18
    longest: int = 240

    def __post_init__(self):
        if not 0 < self.new <= self.clip <= self.longest:
            raise ValueError(
                f"clips of {self.clip} latent frames with {self.new} new ones in films of up to "
                f"{self.longest}: allowed is 0 < new <= clip <= longest"
            )

    def check_chunks(self, chunk: int) -> None:
        if self.clip % chunk or self.new % chunk:
            raise ValueError(
                f"clips of {self.clip} latent frames with {self.new} new ones: both must be multiples of "
                f"the chunk, {chunk}"
            )

    @property
    def clips(self) -> int:
        """Number of clips of the longest film."""
        return 1 + (self.longest - self.clip) // self.new

    @property
    def frames(self) -> int:
        """Length of the longest film of whole clips."""
        return self.clip + (self.clips - 1) * self.new


@dataclass(frozen=True)
class ScoredClip:
    """A clip of a film as the scores see it.

    Attributes:
        rolled: its new frames, and what their gradient needs.
        latents: [B, C, T, h, w], context frames, then the new frames; the first may be re-encoded from one picture.
        context: text embeddings of its prompt.
    """

    rolled: RolledClip
    latents: Tensor
    context: Tensor

    @property
    def new_frames(self) -> int:
        return self.rolled.latents.shape[2]


class LongFilm:
    """A batch of films that are being rendered.

    Args:
        shot: a new shot, or that of a finished film.
        first, then: text embeddings before and after the prompt switch, [B, text tokens, text_dim].
        switch: the clip before which the prompt changes; None: never.
        seeds: noise seed of each film.
        lengths: checked against the shot's chunk.
        as_image: re-encodes the first latent frame of all clips but the film's first, see `first_latent.py`. None: it
            is left unchanged.
    """

    def __init__(
        self,
        shot: StudentShot,
        first: Tensor,
        then: Tensor | None,
        switch: int | None,
        seeds: list[int],
        lengths: Lengths,
        as_image: AsImage | None = None,
    ):
        lengths.check_chunks(shot.stream.chunk)
        if switch is not None and then is None:
            raise ValueError("a film whose prompt changes needs a follow-up prompt")
        self.shot, self.lengths = shot, lengths
        self.first, self.then, self.switch, self.seeds, self.as_image = first, then, switch, seeds, as_image
        self.clips = 0
        self.tail: Tensor | None = None

    @property
    def finished(self) -> bool:
        return self.clips >= self.lengths.clips

    @property
    def context(self) -> Tensor:
        """Text embeddings of the next clip's prompt."""
        return self.first if self.switch is None or self.clips < self.switch else self.then

    @torch.no_grad()
    def next_clip(self, exit_step: int) -> ScoredClip:
        """Render the next clip; see `self_forcing.StudentShot.roll` for `exit_step`."""
        if self.finished:
            raise RuntimeError(f"the film has all its {self.lengths.clips} clips; begin another one")
        context, size = self.context, self.lengths.new
        if self.clips == 0:
            self.shot.switch(context, "cut", nothing)
            size = self.lengths.clip
        elif self.clips == self.switch:
            self.shot.switch(context, "recache", nothing)
        rolled = self.shot.roll(context, size // self.shot.stream.chunk, AddressedNoise(self.seeds), exit_step)
        latest = rolled.latents if self.tail is None else torch.cat([self.tail, rolled.latents], dim=2)
        self.tail = latest[:, :, -(self.lengths.clip - self.lengths.new + HISTORY) :].clone()
        self.clips += 1
        return ScoredClip(rolled, self._as_scored(latest), context)

    def _as_scored(self, latest: Tensor) -> Tensor:
        """Return the newest clip as the scores see it."""
        start = latest.shape[2] - self.lengths.clip
        clip = latest[:, :, start:]
        if self.clips == 1 or self.as_image is None or self.lengths.new == self.lengths.clip:
            return clip  # it begins the film, or stays unchanged, or its first frame needs a gradient
        return torch.cat([self.as_image(latest[:, :, : start + 1]), clip[:, :, 1:]], dim=2)

    def state_dict(self) -> dict:
        """Return everything that the rest of the film depends on: tensors, numbers and lists."""
        shot = self.shot.state()
        return {
            "keys": shot.cache.keys,
            "values": shot.cache.values,
            "sink_count": shot.cache.sink_count,
            "ring_count": shot.cache.ring_count,
            "recent": list(shot.recent),
            "chunks": shot.chunks,
            "first": self.first,
            "then": self.then,
            "switch": self.switch,
            "seeds": self.seeds,
            "clips": self.clips,
            "tail": self.tail,
        }

    @classmethod
    def from_state_dict(
        cls, shot: StudentShot, state: dict, lengths: Lengths, as_image: AsImage | None = None
    ) -> LongFilm:
        """Resume a film from its saved state."""
        film = cls(shot, state["first"], state["then"], state["switch"], state["seeds"], lengths, as_image)
        film.clips, film.tail = state["clips"], state["tail"]
        cache = Snapshot(*(state[name] for name in ("keys", "values", "sink_count", "ring_count")))
        shot.load(ShotState(cache, tuple(state["recent"]), state["chunks"]))
        return film
