"""The shifted flow-matching schedule, and the conversions between velocity, clean sample and noisy sample.

With sigma in [0, 1]: x_t = (1 - sigma) x_0 + sigma noise, velocity v = noise - x_0, timestep = 1000 sigma.
(Flow matching, Lipman et al. 2023; the shift is Esser et al. 2024, eq. 23; few-step use: Self-Forcing, algorithm 1.)
"""

from __future__ import annotations

from torch import Tensor

from ..config import TRAIN_TIMESTEPS


def warp(step: float, shift: float) -> float:
    """Return the timestep after the shift: 1000, 750, 500, 250 -> 1000, 937.5, 833.3, 625 at shift 5."""
    sigma = step / TRAIN_TIMESTEPS
    return TRAIN_TIMESTEPS * shift * sigma / (1 + (shift - 1) * sigma)


def clean_sample(noisy: Tensor, velocity: Tensor, timestep: float) -> Tensor:
    """Return x_0, the clean sample, from a noisy sample and the model's velocity for it. Float32, any shape."""
    return noisy.float() - (timestep / TRAIN_TIMESTEPS) * velocity.float()


def add_noise(clean: Tensor, noise: Tensor, timestep: float) -> Tensor:
    """Return x_t, the noisy sample, from a clean sample. Float32, any shape."""
    sigma = timestep / TRAIN_TIMESTEPS
    return (1 - sigma) * clean + sigma * noise
