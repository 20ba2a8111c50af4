"""Stage `dit`: the text encoder and the transformer, trained from scratch on a growing pool of clips.

The loss is that of `forcing.py`. Two things keep long films from drifting: the clean context carries a little noise,
and the model's own earlier renderings replace part of it.

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..device.precision import working_dtype
from ..engine.rollout import rollout
from ..engine.shot import PromptSpan
from ..model import WanModel
from ..train.causal_start.teacher_forcing import ForcingLayout
from ..train.optimiser import cosine_rate
from . import stage_text
from .clip_pool import CHUNK, CHUNKS, ClipPool, TrainingClip
from .forcing import FIRST_CHUNK_CLIPS, FIRST_CHUNKS, Forcing, LossWeights
from .training import POCKET, TRANSFORMER, Draws, StageLog, optimiser_for, save_when_due, take_step

OWN_CHUNKS = 3  # first chunks of a clip that the model renders itself
# What a step on whole clips trains: the layout, the number of clips, and the share of these steps.
WHOLE_CLIPS = (
    (ForcingLayout(CHUNKS, 2), 2, 0.5),
    (ForcingLayout(CHUNKS, 2, switch=2), 2, 0.1),
    (ForcingLayout(CHUNKS, 4, switch=3), 2, 0.1),
    (ForcingLayout(CHUNKS, 4, switch=4), 2, 0.1),
    (ForcingLayout(CHUNKS, 4, switch=4, held=True), 2, 0.2),
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DitSettings:
    """How the transformer is trained; the shipped weights were trained with the defaults."""

    model: ModelConfig = TRANSFORMER
    text_steps: int = 600
    steps: int = 2000
    rate: float = 1.2e-3
    matrix_rate: float = 0.015  # of Muon, for the matrices of the blocks
    warmup: int = 50
    average: float = 0.997  # decay of the averaged weights
    weights: LossWeights = LossWeights(subject=3.0, heads=1.0)
    first_clips: int = 60  # in the pool before the first step
    clips_per_step: float = 0.25
    first_chunk_steps: tuple[float, float] = (0.6, 0.2)  # share of steps on first chunks alone, at start and end
    context_noise: float = 0.15  # largest deviation
    own_from: int = 500  # step from which the model's own renderings serve as context
    own_age: int = 300  # steps after which a rendering is outdated and no longer used
    own_rate: float = 0.7  # share of the clips with a rendering whose context starts with it
    render_every: int = 16  # steps
    rendered_clips: int = 8


def train(pool: ClipPool, folder: Path, seed: int, settings: DitSettings = DitSettings()) -> Path:
    """Train text encoder and transformer; write `folder/dit.pt` (averaged float32 weights of both)."""
    torch.manual_seed(seed)
    rng, draws, path = np.random.default_rng(seed), Draws(seed), folder / "dit.pt"
    encoder = stage_text.train(settings.text_steps, rng).to(working_dtype())
    model = WanModel(settings.model)
    initialise(model, encoder.config.d_model)
    model.to(working_dtype())
    log.info(
        "transformer %.2f M, text encoder %.2f M parameters",
        *(sum(p.numel() for p in m.parameters()) / 1e6 for m in (model, encoder)),
    )
    forcing = Forcing(model, encoder, settings.model, settings.weights, draws)
    optimiser = optimiser_for({"dit": model, "text": encoder, "heads": forcing.heads}, settings.average)
    pool.encode_starts()
    training_log, (first, last) = StageLog(), settings.first_chunk_steps
    for step in range(settings.steps):
        pool.grow(settings.first_clips + int(step * settings.clips_per_step))
        clips, layout = draw(pool, rng, first + (last - first) * step / settings.steps)
        if step >= settings.own_from and step % settings.render_every == 0:
            early = [clip for clip in pool.clips if clip.switch != 2]  # no change of prompt in the rendered chunks
            chosen = rng.choice(len(early), settings.rendered_clips, replace=False)
            render_beginnings(forcing, [early[number] for number in chosen], step)
        batch = forcing.noisy_batch(clips, layout)
        loss, errors = forcing.loss(batch, noisy_context(clips, layout, step, settings, draws))
        share = cosine_rate(step, settings.steps, 1.0, settings.warmup)
        take_step(optimiser, loss, share * settings.rate, share * settings.matrix_rate)
        training_log.step(step, loss, "first" if layout.chunks == 1 else "clip", errors)
        save_when_due(path, optimiser, step, settings.steps)
    return path


def initialise(model: WanModel, text_width: int) -> None:
    """Initialise for a short training: open gates, a text embedding scaled to its few live inputs, noise copied."""
    nn.init.normal_(model.text_embedding[0].weight, 0.0, text_width**-0.5)
    nn.init.normal_(model.time_embedding[0].weight, 0.0, 0.02)
    with torch.no_grad():
        for block in model.blocks:
            block.modulation[:, [2, 5]] += 0.5
    # Patches enter by an orthonormal map and leave by its transpose: the first velocity is the noisy sample itself, so
    # the model need not learn to copy noise.
    patch = model.patch_embedding.weight[0].numel()
    basis = nn.init.orthogonal_(torch.empty(model.dim, patch))
    scale = (model.dim / patch) ** 0.5
    with torch.no_grad():
        model.patch_embedding.weight.copy_((basis * scale).view_as(model.patch_embedding.weight))
        into = model.patch_embedding.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)  # rows in the order patches come out
        model.head.head.weight.copy_(into / scale**2)
        model.head.modulation.mul_(0.1)
    nn.init.zeros_(model.patch_embedding.bias)
    nn.init.zeros_(model.head.head.bias)


def draw(
    pool: ClipPool, rng: np.random.Generator, first_chunk_steps: float
) -> tuple[list[TrainingClip], ForcingLayout]:
    """Draw a batch and its layout; `first_chunk_steps` is the probability of a step on first chunks alone."""
    if rng.random() < first_chunk_steps:
        chosen = rng.choice(len(pool.starts), size=FIRST_CHUNK_CLIPS, replace=False)
        return [pool.starts[number] for number in chosen], FIRST_CHUNKS
    shares = np.array([share for *_, share in WHOLE_CLIPS])
    layout, clips, _ = WHOLE_CLIPS[rng.choice(len(WHOLE_CLIPS), p=shares)]
    numbers = pool.of_switch(layout.switch)
    chosen = rng.choice(numbers, size=clips, replace=len(numbers) < clips)
    return [pool.clips[number] for number in chosen], layout


def noisy_context(
    clips: list[TrainingClip], layout: ForcingLayout, step: int, settings: DitSettings, draws: Draws
) -> Tensor:
    """Return the clean part of the sequence, [B, C, T, h, w]: the model's own chunks, or true ones, half with noise."""
    clean = torch.stack([clip.latents for clip in clips]).float()[:, :, : CHUNK * len(layout.clean)].clone()
    for row, clip in enumerate(clips):
        own = 0  # number of first chunks that are the model's own
        fresh = clip.own is not None and step - clip.rendered_at <= settings.own_age
        if fresh and draws.rng.random() < settings.own_rate:
            own = int(draws.rng.integers(1, OWN_CHUNKS + 1))
        for chunk in layout.clean:
            place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
            if chunk < own:
                clean[row, :, place] = clip.own[:, place].float()
            elif draws.rng.random() < 0.5:
                amount = settings.context_noise * draws.rng.random()
                clean[row, :, place] += amount * draws.noise(clean[row, :, place])
    return clean


@torch.no_grad()
def render_beginnings(forcing: Forcing, clips: list[TrainingClip], step: int) -> None:
    """Let the model render the first chunks of these clips, which later steps use as their context."""
    context = forcing.contexts([clip.before for clip in clips])
    noise, size = forcing.draws.film_noise(len(clips)), tuple(clips[0].latents.shape[-2:])
    chunks = rollout(forcing.wan, [PromptSpan(0, context)], OWN_CHUNKS, size, POCKET, noise)
    latents = torch.cat([chunk.latents for chunk in chunks], dim=2)
    for clip, own in zip(clips, latents, strict=True):
        clip.own, clip.rendered_at = own.half(), step
