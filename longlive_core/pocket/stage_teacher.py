"""Stage `teacher`: a bidirectional transformer of short toybox clips, the real score of distillations.

It starts from the weights of the stage `tune`, which read prompts and draw well; it learns to look ahead, and all
timesteps. It is trained by flow matching on clips of 21 latent frames (and on first chunks alone, which show every
combination of attributes); some prompts are left out, for classifier-free guidance. The clips come from films of 14
chunks and start anywhere in them: deep in a film the VAE's latents look different, and long tuning scores those clips
too. All of them begin with the latent of one picture, as the scores see them (`train/distillation/first_latent.py`).
Where a film changes its prompt in a clip's first two chunks, the clip is trained under the new prompt, so the teacher
knows what a switch looks like. The text encoder stays as it is, and the student uses the same one.

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import ModelConfig
from ..model import CausalWan
from ..toybox.captions import caption
from ..train.bidirectional import velocity
from ..train.causal_start.teacher_forcing import matmul_attention
from ..train.distillation.first_latent import HISTORY, AsImage, image_latents
from ..train.flow_matching import noised, timesteps_of
from ..train.optimiser import cosine_rate
from .clip_pool import CHUNK, ClipPool, TrainingClip
from .film_pool import FILM_CHUNKS, FilmPool, PoolFilm
from .forcing import FIRST_CHUNK_CLIPS, UNKNOWN_RATE
from .language import PromptEncoder
from .training import (
    POCKET,
    TRANSFORMER,
    Draws,
    StageLog,
    frozen_text,
    load_checkpoint,
    optimiser_for,
    save_when_due,
    take_step,
)

CLIP_CHUNKS = 7  # 21 latent frames, as the paper's teacher sees
FULL_RANGE = (1.0, 1000.0)  # timesteps; sampling starts from pure noise


@dataclass(frozen=True)
class TeacherSettings:
    """How the teacher is trained."""

    model: ModelConfig = TRANSFORMER
    steps: int = 800
    rate: float = 5e-4
    matrix_rate: float = 0.006  # of Muon, for the matrices of the blocks
    warmup: int = 50
    average: float = 0.997  # decay of the averaged weights
    subject_weight: float = 3.0
    first_films: int = 64  # in the pool before the first step
    films_per_step: float = 0.2
    batch: int = 4
    first_chunk_steps: float = 0.25  # share of steps on first chunks alone
    no_prompt: float = 0.1  # share of clips whose prompt is left out


def train(
    pool: ClipPool, films: FilmPool, folder: Path, seed: int, settings: TeacherSettings = TeacherSettings()
) -> Path:
    """Train the teacher from `folder/tuned.pt`; write `folder/teacher.pt` (averaged float32 weights).

    `pool` gives the first chunks.
    """
    torch.manual_seed(seed)
    path, draws, rng = folder / "teacher.pt", Draws(seed), np.random.default_rng((seed, 3))
    model, encoder = load_checkpoint(folder / "tuned.pt", settings.model)
    wan, prompts = CausalWan(model, settings.model, matmul_attention), PromptEncoder(encoder)
    optimiser, text = optimiser_for({"dit": model}, settings.average), frozen_text(encoder)
    pool.encode_starts()
    training_log, cuts = StageLog(), TeacherClips(films)
    for step in range(settings.steps):
        films.grow(settings.first_films + int(step * settings.films_per_step))
        if rng.random() < settings.first_chunk_steps:
            chosen = rng.choice(len(pool.starts), FIRST_CHUNK_CLIPS, replace=False)
            name, clips = "first", [pool.starts[number] for number in chosen]
        else:
            name, clips = "clip", cuts.draw(rng, settings.batch)
        loss, errors = flow_loss(wan, prompts, clips, settings, draws)
        share = cosine_rate(step, settings.steps, 1.0, settings.warmup)
        take_step(optimiser, loss, share * settings.rate, share * settings.matrix_rate)
        training_log.step(step, loss, name, errors)
        save_when_due(path, optimiser, step, settings.steps, text)
    return path


def flow_loss(
    wan: CausalWan, prompts: PromptEncoder, clips: list[TrainingClip], settings: TeacherSettings, draws: Draws
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss on clips of one length, and the error of the clean prediction by range of timesteps."""
    latents = torch.stack([clip.latents for clip in clips]).float()
    weight = 1 + settings.subject_weight * torch.stack([clip.weight for clip in clips]).float()[:, None]
    timesteps = timesteps_of(draws.uniform(len(clips), dtype=torch.float64), POCKET.shift, *FULL_RANGE)
    noise = draws.noise(latents)
    prompted = draws.rng.random(len(clips)) >= settings.no_prompt
    texts = [
        caption(clip.after, draws.rng) if with_prompt else "" for clip, with_prompt in zip(clips, prompted, strict=True)
    ]
    with torch.no_grad():
        context = prompts(texts, UNKNOWN_RATE, draws.rng)
    flow = velocity(wan, noised(latents, noise, timesteps), timesteps, wan.prompt_keys(context))
    squares = (flow - (noise - latents)).square()
    loss = (squares * weight).sum() / weight.sum() / latents.shape[1]
    return loss, _errors(squares.detach(), weight, timesteps)


def _errors(squares: Tensor, weight: Tensor, timesteps: Tensor) -> dict[str, float]:
    per_clip = (squares.mean(dim=1, keepdim=True) * weight).sum(dim=(1, 2, 3, 4)) / weight.sum(dim=(1, 2, 3, 4))
    clean = per_clip * (timesteps / 1000).square()
    ranges = {low: (timesteps >= low) & (timesteps < high) for low, high in ((0, 600), (600, 900), (900, 1001))}
    return {str(low): float(clean[inside].mean()) for low, inside in ranges.items() if inside.any()}


def clip_starts(film: PoolFilm) -> list[int]:
    """Return where clips can start: one prompt fits a clip whose only switches are in its first two chunks."""
    return [
        start
        for start in range(FILM_CHUNKS - CLIP_CHUNKS + 1)
        if not any(start + 1 < switch < start + CLIP_CHUNKS for switch in film.switches)
    ]


def teacher_clip(film: PoolFilm, start: int, as_image: AsImage) -> TrainingClip:
    """Cut 21 latent frames out of a film from chunk `start` on, under the prompt with which they end."""
    first = start * CHUNK
    frames = slice(first, first + CLIP_CHUNKS * CHUNK)
    latents, requested = film.latents[:, frames], film.requested(start + CLIP_CHUNKS - 1)
    if start:
        before = film.latents[None, :, max(0, first - HISTORY) : first + 1]
        latents = torch.cat([as_image(before.float())[0].to(latents), latents[:, 1:]], dim=1)
    return TrainingClip(latents, film.weight[frames], requested, requested)


class TeacherClips:
    """Clips of a pool's films by film and start; each is cut out once."""

    def __init__(self, pool: FilmPool):
        self.pool, self.as_image, self.clips = pool, image_latents(pool.vae), {}

    def draw(self, rng: np.random.Generator, size: int) -> list[TrainingClip]:
        """Draw clips of the films in the pool so far."""
        chosen: list[TrainingClip] = []
        while len(chosen) < size:
            number = int(rng.integers(len(self.pool.films)))
            film = self.pool.films[number]
            if starts := clip_starts(film):
                start = starts[rng.integers(len(starts))]
                if (number, start) not in self.clips:
                    self.clips[number, start] = teacher_clip(film, start, self.as_image)
                chosen.append(self.clips[number, start])
        return chosen
