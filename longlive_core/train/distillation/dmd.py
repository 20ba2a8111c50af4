"""Distribution matching distillation (DMD): the gradient that moves the student's films towards the teacher's.

Noise is added to the student's clip. The real score (the teacher, with guidance) and the fake score (the critic,
trained on the student's films) each predict the clean clip. The difference of the two is the gradient of the
Kullback-Leibler divergence between the two distributions (Yin et al. 2024, eq. 7). It is divided by the mean absolute
difference between the student's clip and the teacher's prediction (eq. 8, as Self-Forcing and LongLive normalise it,
per clip).

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...model import CausalWan
from ..bidirectional import clean_clip
from ..flow_matching import flow_loss, noised


def dmd_direction(clean: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    """Return (fake - real) / mean |clean - real| of each clip; [B, C, T, h, w], float32.

    Where a clip equals the teacher's prediction everywhere, the direction is zero, not infinite.
    """
    clean, real, fake = (t.float() for t in (clean, real, fake))
    distance = (clean - real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.where(distance == 0, 0.0, (fake - real) / distance)  # NaN stays NaN


@dataclass(frozen=True)
class ScorePrompts:
    """Text embeddings for the scores of a clip, [B, text tokens, text_dim] each."""

    conditional: Tensor
    unconditional: Tensor


@dataclass(frozen=True)
class Scores:
    """The two score models.

    Attributes:
        real: the teacher; frozen.
        fake: the critic.
        guidance: scale of the real score, see `bidirectional.clean_clip`. The paper's configuration has 3.
    """

    real: CausalWan
    fake: CausalWan
    guidance: float = 3.0

    @torch.no_grad()
    def direction(self, clean: Tensor, prompts: ScorePrompts, timesteps: Tensor, noise: Tensor) -> Tensor:
        """Return the DMD direction of clips [B, C, T, h, w] at timesteps [B] with this noise."""
        noisy = noised(clean, noise, timesteps)
        fake = clean_clip(self.fake, noisy, timesteps, self.fake.prompt_keys(prompts.conditional))
        keys = self.real.prompt_keys(prompts.conditional)
        without = self.real.prompt_keys(prompts.unconditional) if self.guidance else None
        real = clean_clip(self.real, noisy, timesteps, keys, without, self.guidance)
        return dmd_direction(clean, real, fake)

    def critic_loss(
        self, clean: Tensor, prompts: ScorePrompts, timesteps: Tensor, noise: Tensor, new_frames: int
    ) -> Tensor:
        """Return the critic's flow-matching loss on the newest frames of the student's clips."""
        return flow_loss(self.fake, clean, noise, timesteps, self.fake.prompt_keys(prompts.conditional), new_frames)


def loss_gradient(direction: Tensor, new_frames: int) -> Tensor:
    """Return the gradient of the DMD loss with respect to a clip's last `new_frames` latent frames.

    The loss is 1/2 mean (x - (x - direction))^2 over them, whose gradient is direction / number of elements. The frames
    before are only context for the scores.
    """
    new = direction[:, :, -new_frames:]
    return new / new.numel()
