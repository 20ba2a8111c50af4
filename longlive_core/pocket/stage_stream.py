"""Stage `stream`: streaming long tuning, in which the tuned transformer learns to continue its own minutes of film.

It trains on the same excerpts as `tune`, but most of its context comes from streams: films that the model extends from
its own cache while it learns (`streams.py`). The text encoder stays as it is: the earlier transformers, which use it as
well, keep working. Several processes train together under torchrun: each draws its own batches, and the mean of their
gradients updates the weights.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..config import ModelConfig
from ..train.causal_start.teacher_forcing import matmul_attention
from ..train.optimiser import cosine_rate
from ..train.parallel import Ranks
from ..vae import WanVAE
from .clip_pool import ClipPool
from .curriculum import EXCERPT_KINDS, Curriculum
from .film_pool import FilmPool
from .forcing import Forcing, LossWeights
from .own_films import own_context, render_excerpts
from .streams import Streams
from .training import (
    ONE_RANK,
    TRANSFORMER,
    Draws,
    StageLog,
    frozen_text,
    load_checkpoint,
    optimiser_for,
    save_when_due,
    take_step,
)

RANK_SEEDS = 1000  # between the seeds of two ranks' films and noise
STREAM_CHUNKS = 48  # length of a stream, 36 s
# Chunks at which the prompt changes. All streams of a batch share one pattern; a switch leaves the window before it and
# the four chunks from it on to one prompt each.
STREAM_PATTERNS: tuple[tuple[int, ...], ...] = (
    (7, 19, 33),
    (6, 13, 20, 27, 34, 41),
    (),
    (9, 15, 24, 38),
    (24,),
    (5, 11, 17, 23, 29, 35, 41),
    (16, 21, 37),
    (12, 30),
    (6, 14, 22, 31, 40),
    (),
    (10, 28, 36),
    (8, 12, 16, 20, 24, 28, 32, 36, 40, 44),
)
ONLY_ACTION = 0.5  # share of the switches that keep subject and setting, as the paper's follow-ups do


@dataclass(frozen=True)
class StreamSettings:
    """How the tuned transformer is trained on streams; the shipped weights were trained with the defaults."""

    model: ModelConfig = TRANSFORMER
    steps: int = 1800
    rate: float = 4e-4
    matrix_rate: float = 0.005  # of Muon, for the matrices of the blocks
    warmup: int = 50
    average: float = 0.998  # decay of the averaged weights
    weights: LossWeights = LossWeights(subject=6.0, heads=0.25)
    films: int = 32  # long films besides the streams
    context_noise: float = 0.15  # largest deviation
    near: float = 0.8  # largest error of an own chunk that serves as context
    own_age: int = 200  # steps after which a rendering is outdated and no longer used
    own_rate: float = 0.85  # share of the batches with the model's own renderings
    render_every: int = 24  # steps
    rendered_clips: int = 8
    changes: float = 0.0  # share of the steps on nothing but the chunk after a late switch
    streams: int = 8  # films that are extended side by side
    stream_every: int = 12  # steps
    stream_chunks: int = 4  # by which they are extended
    first_stream_films: int = 16  # true films of the streams before the first step
    stream_films_per_step: float = 0.03


def stream_films(vae: WanVAE, seed: int, settings: StreamSettings) -> FilmPool:
    """Return the true films against which the streams are compared."""
    return FilmPool(vae, seed, STREAM_CHUNKS, STREAM_PATTERNS, in_row=settings.streams, only_action=ONLY_ACTION)


def train(
    pool: ClipPool,
    films: FilmPool,
    true_films: FilmPool,
    folder: Path,
    seed: int,
    settings: StreamSettings = StreamSettings(),
    ranks: Ranks = ONE_RANK,
) -> Path:
    """Train `folder/tuned.pt` on streams; write `folder/streamed.pt` (averaged float32 weights).

    Args:
        pool: gives the first chunks.
        films: long films for the excerpts that are not of streams.
        true_films: from `stream_films`.
        ranks: the processes that train together.
    """
    torch.manual_seed(seed)
    path, draws = folder / "streamed.pt", Draws(seed + RANK_SEEDS * ranks.rank)
    rng = np.random.default_rng((seed, settings.streams, 2, ranks.rank))
    kinds = np.random.default_rng((seed, settings.streams, 3))
    model, encoder = load_checkpoint(folder / "tuned.pt", settings.model)
    forcing = Forcing(model, encoder.requires_grad_(False), settings.model, settings.weights, draws, matmul_attention)
    optimiser = optimiser_for({"dit": model, "heads": forcing.heads}, settings.average)
    text = frozen_text(encoder)
    pool.encode_starts(ranks.rank, ranks.count)
    films.grow(settings.films)
    curriculum, training_log = Curriculum(pool.starts, films.films, rng, kinds, settings.changes), StageLog()
    streams = Streams(forcing.wan, forcing.contexts, true_films, settings.streams, settings.near, rng)
    for step in range(settings.steps):
        oldest = step - settings.own_age
        if step % settings.render_every == 0:
            kind, clips = curriculum.draw_to_render(settings.rendered_clips)
            near = render_excerpts(forcing, clips, kind.layout, step, settings.near, rng)
            curriculum.add(kind, clips, oldest)
            training_log.add(kind.name, {"near": near})
        if step % settings.stream_every == 0:
            true_films.grow(settings.first_stream_films + int(step * settings.stream_films_per_step))
            rendered, near = streams.advance(settings.stream_chunks, step)
            for kind in EXCERPT_KINDS:
                curriculum.add(kind, rendered[kind], oldest)
            training_log.add("stream", {"near": near})
        name, clips, layout = curriculum.draw(settings.own_rate)
        batch = forcing.noisy_batch(clips, layout)
        context = own_context(clips, layout, settings.near, settings.context_noise, draws)
        loss, errors = forcing.loss(batch, context)
        share = cosine_rate(step, settings.steps, 1.0, settings.warmup)
        take_step(optimiser, loss, share * settings.rate, share * settings.matrix_rate, ranks)
        training_log.step(step, loss, name, errors)
        if ranks.first:
            save_when_due(path, optimiser, step, settings.steps, text)
    return path
