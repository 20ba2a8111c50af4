"""Teacher forcing of the stages `dit`, `tune` and `stream`: the loss of one batch of clips that share a layout.

The transformer learns velocities at exactly the four noise levels that its sampler visits. One forward covers a clean
context and several noisy copies of the chunks after it (`train/causal_start/teacher_forcing.py`). The auxiliary task
(`grounding.py`) is trained in the same forward. A step has three parts, since the stages differ in the second one:

    batch = forcing.noisy_batch(clips, layout)
    context = ...  # clean chunks, with a little noise or replaced by what the model rendered itself
    loss, errors = forcing.loss(batch, context)

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import UMT5EncoderModel

from ..config import TRAIN_TIMESTEPS, ModelConfig
from ..device.precision import working_dtype
from ..engine.schedule import add_noise, warp
from ..model import Rotary, WanModel
from ..model.attention import Attention, default_attention
from ..toybox import HEIGHT, WIDTH
from ..toybox.captions import caption
from ..toybox.world import Attributes
from ..train.causal_start.teacher_forcing import ForcingAttention, ForcingLayout
from .clip_pool import CHUNK, TrainingClip
from .grounding import Grounding, WatchedWan
from .language import PromptEncoder
from .training import POCKET, Draws

GRID = (CHUNK, HEIGHT // 16, WIDTH // 16)  # tokens of a chunk
LEVELS = [warp(step, POCKET.shift) for step in POCKET.denoising_steps]  # timesteps, highest first
UNKNOWN_RATE = 0.02  # unknown words in the prompts
# The start of a film is the hardest part, where nothing but the prompt determines the picture, so first chunks have
# steps of their own; short sequences carry more clips.
FIRST_CHUNKS, FIRST_CHUNK_CLIPS = ForcingLayout(1, 2), 22


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss: what is added for the subject's cells, the factor of a film's first chunk, the heads."""

    subject: float
    heads: float
    first_chunk: float = 1.5


@dataclass(frozen=True)
class NoisyBatch:
    """Clips under a layout, with the noisy copies of their last chunks.

    Attributes:
        target: the true latents of these chunks, [B, C, T, h, w].
        weight: of the loss, [B, 1, T, h, w].
        timesteps, noises, copies: of each noisy copy, [B, T] and twice [B, C, T, h, w].
    """

    clips: list[TrainingClip]
    layout: ForcingLayout
    target: Tensor
    weight: Tensor
    timesteps: list[Tensor]
    noises: list[Tensor]
    copies: list[Tensor]


class Forcing:
    """The transformer under teacher forcing, with its text encoder and the heads of the auxiliary task."""

    def __init__(
        self,
        model: WanModel,
        encoder: UMT5EncoderModel,
        config: ModelConfig,
        weights: LossWeights,
        draws: Draws,
        attention: Attention = default_attention,
    ):
        self.wan, self.heads = WatchedWan(model, config, attention), Grounding(config.dim, GRID).to(working_dtype())
        self.prompts, self.weights, self.draws = PromptEncoder(encoder), weights, draws
        self.attends: dict[ForcingLayout, ForcingAttention] = {}

    def contexts(self, requested: list[Attributes]) -> Tensor:
        """Return text embeddings of these attributes in random words, [B, text tokens, text_dim]."""
        return self.prompts([caption(attributes, self.draws.rng) for attributes in requested])

    def noisy_batch(self, clips: list[TrainingClip], layout: ForcingLayout) -> NoisyBatch:
        """Draw the timesteps and the noise of a batch.

        Even copies are at one of the two high levels, odd ones at one of the two low levels. A first chunk alone is
        always at a high one: there nothing but the prompt determines its colour.
        """
        place = slice(layout.noisy.start * CHUNK, layout.chunks * CHUNK)
        target = torch.stack([clip.latents for clip in clips]).float()[:, :, place]
        highs = [copy % 2 == 0 or layout.chunks == 1 for copy in range(layout.copies)]
        timesteps = [self._timesteps(len(clips), len(layout.noisy), high) for high in highs]
        noises = [self.draws.noise(target) for _ in timesteps]
        copies = [
            add_noise(target, noise, t[:, None, :, None, None]) for noise, t in zip(noises, timesteps, strict=True)
        ]
        weight = 1 + self.weights.subject * torch.stack([clip.weight for clip in clips]).float()[:, None]
        weight[:, :, :CHUNK] *= self.weights.first_chunk
        return NoisyBatch(clips, layout, target, weight[:, :, place], timesteps, noises, copies)

    def loss(self, batch: NoisyBatch, context: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the loss, and the error of the clean prediction by noise level.

        `context` [B, C, T, h, w] is the clean part of the sequence: all chunks of the clips but the last.
        """
        layout, frames = batch.layout, context.shape[2]
        timesteps = torch.cat([torch.zeros(len(batch.clips), frames), *batch.timesteps], dim=1)
        sequence = torch.cat([context, *batch.copies], dim=2)
        velocity = self.wan.velocity(
            sequence, timesteps, self._prompt_keys(batch.clips, layout), self._attend(layout, context)
        )
        loss, errors = torch.zeros(()), {}
        parts = velocity[:, :, frames:].chunk(layout.copies, dim=2)
        for part, noise, noisy, t in zip(parts, batch.noises, batch.copies, batch.timesteps, strict=True):
            squares = batch.weight * (part - (noise - batch.target)).square()
            loss = loss + squares.sum() / batch.weight.sum() / batch.target.shape[1]
            clean = (noisy - t[:, None, :, None, None] / TRAIN_TIMESTEPS * part).detach()
            errors |= _errors(clean, batch.target, t, batch.weight)
        requested = [clip.after for clip in batch.clips]
        auxiliary, errors["right"] = self.heads(self.wan.watched, requested, frames * GRID[1] * GRID[2])
        return loss / layout.copies + self.weights.heads * auxiliary, errors

    def _timesteps(self, clips: int, chunks: int, high: bool) -> Tensor:
        """Draw one of the two high (low) levels for each chunk: [B, T]."""
        level = torch.randint(2, (clips, chunks), generator=self.draws.generator) + (0 if high else 2)
        return torch.tensor(LEVELS)[level].repeat_interleave(CHUNK, dim=1)

    def _attend(self, layout: ForcingLayout, latents: Tensor) -> ForcingAttention:
        if layout not in self.attends:
            grid = (latents.shape[-2] // 2, latents.shape[-1] // 2)
            rotary = Rotary(self.wan.config.head_dim, grid, self.wan.device)
            self.attends[layout] = ForcingAttention(layout, rotary, CHUNK, self.wan.dtype)
        return self.attends[layout]

    def _prompt_keys(self, clips: list[TrainingClip], layout: ForcingLayout) -> list[tuple[Tensor, Tensor]]:
        """Return cross-attention keys and values, one prompt per chunk of the sequence."""
        texts = [caption(attributes, self.draws.rng) for clip in clips for attributes in (clip.before, clip.after)]
        keys = self.wan.prompt_keys(self.prompts(texts, UNKNOWN_RATE, self.draws.rng))
        pick = torch.tensor([2 * row + (not old) for row in range(len(clips)) for old in layout.old_prompt()])
        return [(k[pick], v[pick]) for k, v in keys]


def _errors(clean: Tensor, target: Tensor, timesteps: Tensor, weight: Tensor) -> dict[str, float]:
    """Return the mean weighted square error of a clean prediction by noise level."""
    squares = (clean - target).square().mean(dim=1, keepdim=True) * weight
    per_frame = squares.sum(dim=(1, 3, 4)) / weight.sum(dim=(1, 3, 4))
    return {f"{level:.0f}": float(per_frame[timesteps == level].mean()) for level in timesteps.unique().tolist()}
