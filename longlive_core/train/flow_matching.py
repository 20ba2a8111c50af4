"""The flow-matching loss of a bidirectional model, by which the critic learns the student's distribution.

Flow matching (Lipman et al. 2023): the target of v(x_t, t) is noise - clean. Timesteps are drawn uniformly and then
shifted as at inference (Wan 2.1; Self-Forcing and LongLive do this for critic and scores, within 2 to 98 % of the
scale).

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

from __future__ import annotations

from torch import Tensor

from ..config import TRAIN_TIMESTEPS
from ..engine.schedule import warp
from ..model import CausalWan
from ..model.causal import PromptKeys
from .bidirectional import velocity

LOWEST, HIGHEST = (
    0.02 * TRAIN_TIMESTEPS,
    0.98 * TRAIN_TIMESTEPS,
)  # DMD's range; outside it, scores are uninformative or explode


def timesteps_of(even: Tensor, shift: float, lowest: float = LOWEST, highest: float = HIGHEST) -> Tensor:
    """Map uniform numbers [B] in [0, 1) to timesteps [B]: shift, then clamp."""
    return warp(even.double() * TRAIN_TIMESTEPS, shift).clamp(lowest, highest).float()


def noised(clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Return x_t of clips [B, C, T, h, w] at timesteps [B]."""
    sigma = (timesteps / TRAIN_TIMESTEPS).to(clean.device).view(-1, 1, 1, 1, 1)
    return (1 - sigma) * clean + sigma * noise


def flow_loss(
    model: CausalWan, clean: Tensor, noise: Tensor, timesteps: Tensor, prompt: PromptKeys, new_frames: int
) -> Tensor:
    """Return the mean squared error of the velocity over the clip's last `new_frames` latent frames."""
    error = velocity(model, noised(clean, noise, timesteps), timesteps, prompt) - (noise - clean)
    return error[:, :, -new_frames:].square().mean()
