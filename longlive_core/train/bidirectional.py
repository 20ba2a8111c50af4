"""A Wan transformer applied to a whole clip at once: the teacher (real score) and the critic (fake score).

Every token attends to every other one, at positions 0 to T - 1, as Wan 2.1 was trained. This is the causal forward with
another `attend` callback, so student and teacher run through the same function.

Shapes: B clips, C channels, T latent frames, h, w latent size, L tokens, N heads, D head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import TRAIN_TIMESTEPS
from ..engine.schedule import warp
from ..model import CausalWan, Rotary
from ..model.causal import Attend, PromptKeys
from ..model.rotary import apply as rotate


def full_attention(model: CausalWan, latents: Tensor) -> Attend:
    """Return an `attend` callback with full attention over a clip [B, C, T, h, w]."""
    _, ph, pw = model.config.patch_size
    frames, height, width = latents.shape[2:]
    table = Rotary(model.config.head_dim, (height // ph, width // pw), model.device).table(range(frames))

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return model.attention(rotate(q, table), rotate(k, table), v)

    return attend


def velocity(model: CausalWan, noisy: Tensor, timesteps: Tensor, prompt: PromptKeys) -> Tensor:
    """Return the velocity of clips whose frames all share a timestep.

    Args:
        noisy: [B, C, T, h, w].
        timesteps: [B], in [0, 1000].

    Returns:
        [B, C, T, h, w], float32.
    """
    every = timesteps[:, None].expand(-1, noisy.shape[2])
    return model.velocity(noisy, every, prompt, full_attention(model, noisy))


def clean_clip(
    model: CausalWan,
    noisy: Tensor,
    timesteps: Tensor,
    prompt: PromptKeys,
    unconditional: PromptKeys | None = None,
    guidance: float = 0.0,
) -> Tensor:
    """Predict the clean clip from a noisy one, optionally with classifier-free guidance.

    Guidance g gives conditional + g (conditional - unconditional), as LongLive and Self-Forcing define
    `guidance_scale: 3.0`; in Ho and Salimans' notation (2022) that is a weight of 1 + g.

    Returns:
        [B, C, T, h, w], float32.
    """
    sigma = (timesteps / TRAIN_TIMESTEPS).to(noisy.device).view(-1, 1, 1, 1, 1)
    flow = velocity(model, noisy, timesteps, prompt)
    if guidance:
        if unconditional is None:
            raise ValueError(f"guidance {guidance:g} needs a prediction without the prompt; pass `unconditional`")
        flow = flow + guidance * (flow - velocity(model, noisy, timesteps, unconditional))
    return noisy.float() - sigma * flow


@torch.no_grad()
def sample(
    model: CausalWan,
    noise: Tensor,
    prompt: PromptKeys,
    unconditional: PromptKeys | None = None,
    guidance: float = 0.0,
    steps: int = 32,
    shift: float = 5.0,
) -> Tensor:
    """Sample clips from noise [B, C, T, h, w] with Euler steps of the flow on the shifted schedule."""
    levels = [warp(TRAIN_TIMESTEPS * (steps - i) / steps, shift) for i in range(steps)] + [0.0]
    latents = noise.float()
    for now, after in zip(levels, levels[1:], strict=False):
        clean = clean_clip(model, latents, torch.full((len(noise),), now), prompt, unconditional, guidance)
        latents = clean + after / now * (latents - clean)
    return latents
