"""Stage `tune`: the transformer of the stage `dit`, trained further at any place of long films with prompt switches.

The model renders some excerpts itself, starting from a few true chunks. Where its chunks are still near the truth, they
are the context from which it learns to continue, as it must in a rollout. A prompt switch is trained as the rollout
meets it: early in a film, where the sink is recached, and deep in it, where the sink keeps the first prompt.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import ModelConfig
from ..train.causal_start.teacher_forcing import matmul_attention
from ..train.optimiser import cosine_rate
from .clip_pool import ClipPool
from .curriculum import Curriculum
from .film_pool import FilmPool
from .forcing import Forcing, LossWeights
from .own_films import own_context, render_excerpts
from .training import TRANSFORMER, Draws, StageLog, load_checkpoint, optimiser_for, save_when_due, take_step


@dataclass(frozen=True)
class TuneSettings:
    """How the transformer is tuned; the shipped weights were trained with the defaults."""

    model: ModelConfig = TRANSFORMER
    steps: int = 3600
    rate: float = 7e-4
    matrix_rate: float = 0.008  # of Muon, for the matrices of the blocks
    warmup: int = 50
    average: float = 0.998  # decay of the averaged weights
    weights: LossWeights = LossWeights(subject=6.0, heads=0.25)
    first_films: int = 64  # in the pool before the first step
    films_per_step: float = 0.08
    context_noise: float = 0.15  # largest deviation
    near: float = 0.8  # largest error of an own chunk that serves as context
    own_age: int = 400  # steps after which a rendering is outdated and no longer used
    own_rate: float = 0.7  # share of the batches with the model's own renderings
    render_every: int = 12  # steps
    rendered_clips: int = 8


def train(pool: ClipPool, films: FilmPool, folder: Path, seed: int, settings: TuneSettings = TuneSettings()) -> Path:
    """Tune `folder/dit.pt`; write `folder/tuned.pt` (averaged float32 weights). `pool` gives the first chunks."""
    torch.manual_seed(seed)
    path, draws = folder / "tuned.pt", Draws(seed)
    rng, kinds = np.random.default_rng((seed, 0, 2, 0)), np.random.default_rng((seed, 0, 3))
    model, encoder = load_checkpoint(folder / "dit.pt", settings.model)
    forcing = Forcing(model, encoder, settings.model, settings.weights, draws, matmul_attention)
    optimiser = optimiser_for({"dit": model, "heads": forcing.heads, "text": encoder}, settings.average)
    pool.encode_starts()
    curriculum, training_log = Curriculum(pool.starts, films.films, rng, kinds), StageLog()
    for step in range(settings.steps):
        films.grow(settings.first_films + int(step * settings.films_per_step))
        if step % settings.render_every == 0:
            kind, clips = curriculum.draw_to_render(settings.rendered_clips)
            near = render_excerpts(forcing, clips, kind.layout, step, settings.near, rng)
            curriculum.add(kind, clips, oldest=step - settings.own_age)
            training_log.add(kind.name, {"near": near})
        name, clips, layout = curriculum.draw(settings.own_rate)
        batch = forcing.noisy_batch(clips, layout)
        context = own_context(clips, layout, settings.near, settings.context_noise, draws)
        loss, errors = forcing.loss(batch, context)
        share = cosine_rate(step, settings.steps, 1.0, settings.warmup)
        take_step(optimiser, loss, share * settings.rate, share * settings.matrix_rate)
        training_log.step(step, loss, name, errors)
        save_when_due(path, optimiser, step, settings.steps)
    return path
