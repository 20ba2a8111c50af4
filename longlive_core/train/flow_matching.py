"""The flow-matching loss of a bidirectional model: how the critic follows the student.

Flow matching (Lipman et al. 2023): v(x_t, t) is to be noise - clean. Timesteps are drawn evenly and then shifted, as
they are used (Wan 2.1; Self-Forcing and LongLive draw the critic's and the score's so, within 2 to 98 % of the scale).

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

from __future__ import annotations

from torch import Tensor

from ..config import TRAIN_TIMESTEPS
from ..engine.schedule import warp
from ..model import CausalWan
from ..model.causal import PromptKeys
from .bidirectional import velocity

LOWEST, HIGHEST = 0.02 * TRAIN_TIMESTEPS, 0.98 * TRAIN_TIMESTEPS  # DMD's range; outside, scores say nothing or explode


def timesteps_of(even: Tensor, shift: float, lowest: float = LOWEST, highest: float = HIGHEST) -> Tensor:
    """Even numbers [B] in [0, 1) -> timesteps [B], shifted, then clamped."""
    return warp(even.double() * TRAIN_TIMESTEPS, shift).clamp(lowest, highest).float()


def noised(clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """x_t of clips [B, C, T, h, w] at timesteps [B]."""
    sigma = (timesteps / TRAIN_TIMESTEPS).to(clean.device).view(-1, 1, 1, 1, 1)
    return (1 - sigma) * clean + sigma * noise


def flow_loss(
    model: CausalWan, clean: Tensor, noise: Tensor, timesteps: Tensor, prompt: PromptKeys, new_frames: int
) -> Tensor:
    """Mean squared error of the velocity over the clip's last `new_frames` latent frames."""
    error = velocity(model, noised(clean, noise, timesteps), timesteps, prompt) - (noise - clean)
    return error[:, :, -new_frames:].square().mean()
