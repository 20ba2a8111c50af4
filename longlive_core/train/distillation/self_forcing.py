"""Self-forcing: the student renders a clip as at inference and learns from its own output (Self-Forcing, section 3.2).

Each chunk is denoised up to an exit step, drawn at random and the same for the whole clip; the prediction of that pass
is the chunk, and a clean pass then writes its keys and values into the cache. Gradients go through the exit pass only;
what it reads from the cache is a constant. So a clip's gradient is a sum over chunks, and each chunk's part needs only
the cache as it was when the chunk was rendered. Once the loss is known, the clip is replayed: each chunk's exit pass is
repeated with gradients, and its graph is freed at once. This gives the same gradient at the cost of one more clean pass
per chunk, with the activations of one chunk in memory, however long clip and film are.

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
    """A clip that the student rendered, and what its gradient needs.

    Attributes:
        latents: [B, C, T, h, w], float32, without gradient.
        context: text embeddings of its prompt, [B, text tokens, text_dim].
        inputs: for each chunk the input of its last pass, [B, C, chunk, h, w].
        exit_step: index of the last denoising pass.
        before: state of the shot before the clip.
    """

    latents: Tensor
    context: Tensor
    inputs: tuple[Tensor, ...]
    exit_step: int
    before: ShotState


@dataclass(frozen=True)
class ShotState:
    """A snapshot of a shot between two chunks."""

    cache: Snapshot
    recent: tuple[Tensor, ...]
    chunks: int


class StudentShot(Shot):
    """A shot that is rendered clip by clip and can be replayed with gradients."""

    def state(self) -> ShotState:
        """Return a snapshot."""
        return ShotState(self.cache.snapshot(), tuple(self.recent), self.chunks)

    def load(self, state: ShotState) -> None:
        """Restore a snapshot."""
        self.cache.load(state.cache)
        self.recent.clear()
        self.recent.extend(state.recent)
        self.chunks = state.chunks

    @torch.no_grad()
    def roll(self, context: Tensor, chunks: int, noise: Noise, exit_step: int) -> RolledClip:
        """Render the next chunks under this prompt; the shot must have switched to it before (`switch`)."""
        before, inputs, chunk_latents = self.state(), [], []
        self.prompt = self.model.prompt_keys(context)  # computed with the current weights
        for _ in range(chunks):
            span = self.cache.next_chunk()
            noisy = self.noisy_input(span, noise, exit_step, nothing)
            clean = self.rounded(self.predict(span, noisy, exit_step))
            inputs.append(noisy)
            chunk_latents.append(clean)
            self.feed(clean)
        return RolledClip(torch.cat(chunk_latents, dim=2), context, tuple(inputs), exit_step, before)

    def backward(self, clip: RolledClip, gradient: Tensor) -> None:
        """Accumulate a clip's contribution to the weights' gradients.

        gradient: of the loss with respect to the clip's latents. The shot must be just after the clip, and is there
        again when this returns.
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
    """Do nothing: a step callback without progress or cancellation."""
