"""Self-forcing: the student films a clip as it will at use, and learns from its own film (Self-Forcing, section 3.2).

Each chunk is denoised up to one pass, drawn at random and the same for the whole clip, whose prediction is the chunk;
a clean pass then leaves its keys and values in the cache. Gradients go through that one pass only, and what it reads
from the cache is a constant. So the gradient of a clip is a sum over chunks, and each chunk's part needs the cache as
it stood when the chunk was made, nothing else: after the loss is known, the clip is gone through once more, and each
chunk's pass is repeated with gradients and its graph freed at once. This is the same gradient, for one clean pass a
chunk more, with the activations of one chunk in memory, however long clip and film are.

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...engine.cache import Snapshot
from ...engine.noise import Noise
from ...engine.shot import Shot
from ...model import PromptKeys


@dataclass(frozen=True)
class RolledClip:
    """A clip that the student filmed, and what its gradient needs.

    Attributes:
        latents: [B, C, T, h, w], float32, without gradient.
        context: text embeddings that it was made under, [B, text tokens, text_dim].
        inputs: of each chunk, what its last pass started from, [B, C, chunk, h, w].
        exit_step: which of the denoising passes was the last.
        before: the shot as it stood before the clip.
    """

    latents: Tensor
    context: Tensor
    inputs: tuple[Tensor, ...]
    exit_step: int
    before: ShotState


@dataclass(frozen=True)
class ShotState:
    """A shot between two chunks, to go back to."""

    cache: Snapshot
    recent: tuple[Tensor, ...]
    chunks: int


class StudentShot(Shot):
    """A shot that can be filmed clip by clip and gone through again with gradients."""

    def state(self) -> ShotState:
        return ShotState(self.cache.snapshot(), tuple(self.recent), self.chunks)

    def load(self, state: ShotState) -> None:
        self.cache.load(state.cache)
        self.recent.clear()
        self.recent.extend(state.recent)
        self.chunks = state.chunks

    @torch.no_grad()
    def roll(self, context: Tensor, chunks: int, noise: Noise, exit_step: int) -> RolledClip:
        """Film the next chunks under this prompt, which the shot has taken over before (`switch`)."""
        before, inputs, made = self.state(), [], []
        self.prompt = self.model.prompt_keys(context)  # as the weights are now
        for _ in range(chunks):
            span = self.cache.next_chunk()
            noisy = self.noisy_input(span, noise, exit_step, nothing)
            clean = self.rounded(self.predict(span, noisy, exit_step))
            inputs.append(noisy)
            made.append(clean)
            self.feed(clean)
        return RolledClip(torch.cat(made, dim=2), context, tuple(inputs), exit_step, before)

    def backward(self, clip: RolledClip, gradient: Tensor) -> None:
        """Add a clip's part to the weights' gradients, given the loss's gradient with respect to its latents.

        The shot stands after the clip, before and afterwards.
        """
        self.load(clip.before)
        chunks = zip(clip.inputs, *(t.split(self.stream.chunk, dim=2) for t in (clip.latents, gradient)), strict=True)
        for noisy, latents, wanted in chunks:
            self._backward_chunk(clip, noisy, wanted)
            with torch.no_grad():
                self.feed(latents)

    def _backward_chunk(self, clip: RolledClip, noisy: Tensor, wanted: Tensor) -> None:
        constant: PromptKeys = self.prompt
        span = self.cache.next_chunk()
        with torch.enable_grad():
            self.prompt = self.model.prompt_keys(clip.context)
            self.predict(span, noisy, clip.exit_step).backward(wanted)
        self.prompt = constant


def nothing(step: int) -> None:
    """No progress, no cancellation."""
