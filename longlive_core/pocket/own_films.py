"""The model's own chunks as context, in the stages `tune` and `stream`.

Only chunks near the truth are used: where the model's film has lost the subject or its phase, the true next chunk is a
jump, and training on it would teach jumps.

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

import numpy as np
import torch
from torch import Tensor

from ..engine.shot import Shot
from ..train.causal_start.teacher_forcing import LAST_SLOT, ForcingLayout
from ..train.distillation.self_forcing import nothing
from .clip_pool import CHUNK, TrainingClip
from .forcing import Forcing
from .training import POCKET, Draws


def subject_error(own: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return the mean square of own - true latents [C, T, h, w] where the subject is (weight [T, h, w]); a scalar."""
    return ((own - truth).square().mean(dim=0) * weight).sum() / weight.sum().clamp(min=1e-3)


def near_chunks(clip: TrainingClip, largest_error: float) -> list[bool]:
    """Return, for each chunk that the model rendered, whether its subject's error is at most `largest_error`."""
    frames = clip.own.shape[1]
    own, truth = clip.own.float().split(CHUNK, dim=1), clip.latents[:, :frames].float().split(CHUNK, dim=1)
    weight = clip.weight[:frames].float().split(CHUNK)
    errors = (subject_error(*chunk) for chunk in zip(own, truth, weight, strict=True))
    return [float(error) <= largest_error for error in errors]


def own_context(
    clips: list[TrainingClip], layout: ForcingLayout, largest_error: float, noise: float, draws: Draws
) -> Tensor:
    """Return the clean part of the sequence, [B, C, T, h, w]: own chunks that are near, and true ones with noise.

    `noise` is the largest deviation of the noise.
    """
    clean = torch.stack([clip.latents for clip in clips]).float()[:, :, : CHUNK * len(layout.clean)].clone()
    for row, clip in enumerate(clips):
        near = [False] * len(layout.clean) if clip.own is None else near_chunks(clip, largest_error)
        for chunk in layout.clean:
            place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            if near[chunk]:
                clean[row, :, place] = clip.own[:, place].float()
            else:
                amount = noise * draws.rng.random()
                clean[row, :, place] += amount * draws.noise(clean[row, :, place])
    return clean


@torch.no_grad()
def render_excerpts(
    forcing: Forcing,
    clips: list[TrainingClip],
    layout: ForcingLayout,
    step: int,
    largest_error: float,
    rng: np.random.Generator,
) -> float:
    """Let the model render these excerpts after one to three true chunks; return the share of near chunks."""
    true = int(rng.integers(1, LAST_SLOT + 1))
    sink, previous, after = (
        forcing.contexts([getattr(clip, when) for clip in clips]) for when in ("before", "previous", "after")
    )
    latents = torch.stack([clip.latents for clip in clips]).float().split(CHUNK, dim=2)
    noise = forcing.draws.film_noise(len(clips))
    shot = Shot(forcing.wan, POCKET, tuple(latents[0].shape[-2:]), len(clips), capacity=CHUNK * (layout.chunks + 1))
    shot.switch(sink if layout.held else previous, "cut", nothing)
    chunks = []
    for chunk in layout.clean:
        if layout.held and chunk == 1:
            shot.feed(latents[0])  # past the window, so that the recache leaves the sink unchanged
            shot.switch(previous, "keep", nothing)
        if layout.switch and chunk == layout.switch:
            shot.switch(after, "recache", nothing)
        if chunk < true:
            shot.feed(latents[chunk])
        chunks.append(latents[chunk] if chunk < true else shot.next_chunk(noise, nothing))
    for clip, own in zip(clips, torch.cat(chunks, dim=2), strict=True):
        clip.own, clip.rendered_at = own.half(), step
    return float(np.mean([near_chunks(clip, largest_error)[true:] for clip in clips]))
