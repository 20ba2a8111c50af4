"""The loop of every stage: steps, TensorBoard scalars, sample films, checkpoints, and an end in good order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..engine.noise import AddressedNoise
from ..engine.rollout import rollout
from ..engine.shot import PromptSpan
from ..film.decoding import to_frames
from ..film.video import FilmInUse, FilmWriter
from ..vae import StreamingDecoder, WanVAE
from . import checkpoint
from .config import SAMPLE_FPS, Config
from .models import build, vae_of
from .packages import needed
from .parallel import Ranks
from .settings import ConfigError
from .stage import Stage

log = logging.getLogger(__name__)


def run(config: Config, folder: Path, draw: Callable | None, ranks: Ranks) -> Path:
    """Train until `config.steps`, from the newest checkpoint in `folder` or from the start; returns the last one.

    Args:
        draw: prompts, see `distil.DistilStage`; the causal start needs none, its clips have theirs.

    Raises:
        ConfigError: what is asked cannot be. NotFiniteError: the loss is; the last checkpoint is good.
    """
    vae = vae_of(config, ranks) if config.sample_every and ranks.first else None  # before hours of training
    stage = build(config, draw, ranks)
    done = checkpoint.resume(stage, folder)
    if done > config.steps:
        raise ConfigError(f"{folder} holds {done} steps already, more than the {config.steps} asked for")
    told: dict[str, float] = {}  # the newest of each scalar: not every step tells all of them
    with TrainingLog(folder if ranks.first else None) as journal:
        for step in range(done, config.steps):
            told |= stage.step(step)
            if (step + 1) % config.log_every == 0:
                journal.note(step + 1, config.steps, told)
                told = {}
            last = step + 1 == config.steps
            if last or (step + 1) % config.save_every == 0:
                checkpoint.save(stage, folder, step + 1)
            if config.sample_every and (last or (step + 1) % config.sample_every == 0):
                sample_film(stage, vae, folder / "samples" / f"step-{step + 1:06d}.mp4", journal, step + 1)
    return checkpoint.checkpoints(folder)[-1]


class TrainingLog:
    """Scalars to TensorBoard and the log; nothing on ranks but the first (folder None)."""

    def __init__(self, folder: Path | None):
        self.writer, self.started = None, time.monotonic()
        if folder is not None:
            self.writer = needed("torch.utils.tensorboard").SummaryWriter(str(folder))

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *exception) -> None:
        if self.writer:
            self.writer.close()

    def note(self, step: int, steps: int, told: dict[str, float]) -> None:
        if not self.writer:
            return
        for name, value in told.items():
            self.writer.add_scalar(name, value, step)
        self.writer.add_scalar("seconds", time.monotonic() - self.started, step)
        log.info("step %d of %d: %s", step, steps, ", ".join(f"{name} {value:.4g}" for name, value in told.items()))

    def picture(self, name: str, image, step: int) -> None:
        """image: uint8 [H, W, 3]."""
        if self.writer:
            self.writer.add_image(name, image, step, dataformats="HWC")


@torch.no_grad()
def sample_film(stage: Stage, vae: WanVAE | None, path: Path, journal: TrainingLog, step: int) -> None:
    """Film the stage's prompts with a recache between them, as at use; every rank calls this, the first, which has the
    VAE, writes."""
    config, pair = stage.config, stage.sample_prompts()
    stream, chunks = config.stream, config.sample_chunks
    spans = [PromptSpan(0, stage.encode([pair.prompt]))]
    if pair.follow_up:
        spans.append(PromptSpan(chunks // 2, stage.encode([pair.follow_up])))
    parts = [
        part.latents
        for part in rollout(stage.student.model, spans, chunks, config.latent_size, stream, AddressedNoise(config.seed))
    ]
    if vae is None:
        return
    decoder = StreamingDecoder(vae)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.concatenate([to_frames(decoder.decode(part)) for part in parts])
    try:
        with FilmWriter(path, config.size[0], config.size[1], SAMPLE_FPS) as film:
            film.write(frames)
    except FilmInUse as error:
        log.warning("%s", error)
    journal.picture("film", np.concatenate(frames[:: max(1, len(frames) // 8)], axis=1), step)
