"""A Wan transformer used on a whole clip at once: the teacher (real score) and the critic (fake score).

Every token sees every other one, at the positions 0 to T - 1, as Wan 2.1 was trained. It is the causal forward with
another `attend`, so the student's weights and the teacher's go through one function.

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
    """Joins every token of a clip [B, C, T, h, w] with every other one."""
    _, ph, pw = model.config.patch_size
    frames, height, width = latents.shape[2:]
    table = Rotary(model.config.head_dim, (height // ph, width // pw), model.device).table(range(frames))

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return model.attention(rotate(q, table), rotate(k, table), v)

    return attend


def velocity(model: CausalWan, noisy: Tensor, timesteps: Tensor, prompt: PromptKeys) -> Tensor:
    """The velocity of clips, all of whose frames share a timestep.

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
    """The clean clip that a model sees in a noisy one; with guidance, away from what it sees without the prompt.

    Guidance g gives conditional + g (conditional - unconditional), the reading of LongLive's and Self-Forcing's
    `guidance_scale: 3.0`; in Ho and Salimans' classifier-free guidance (2022) that is a weight of 1 + g.

    Returns:
        [B, C, T, h, w], float32.
    """
    sigma = (timesteps / TRAIN_TIMESTEPS).to(noisy.device).view(-1, 1, 1, 1, 1)
    flow = velocity(model, noisy, timesteps, prompt)
    if guidance:
        if unconditional is None:
            raise ValueError(f"guidance {guidance:g} needs the model's view without a prompt; give `unconditional`")
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
    """Clips from noise [B, C, T, h, w]: Euler steps of the flow on the shifted schedule (for looking at a teacher)."""
    levels = [warp(TRAIN_TIMESTEPS * (steps - i) / steps, shift) for i in range(steps)] + [0.0]
    latents = noise.float()
    for now, after in zip(levels, levels[1:], strict=False):
        clean = clean_clip(model, latents, torch.full((len(noise),), now), prompt, unconditional, guidance)
        latents = clean + after / now * (latents - clean)
    return latents
