"""The training loop of every stage: steps, TensorBoard scalars, sample films and checkpoints."""

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
    """Train until `config.steps`, resuming from the newest checkpoint in `folder`, and return the last checkpoint.

    Args:
        draw: draws prompts, see `distil_stage.DistilStage`; None for the causal start, whose clips have prompts.

    Raises:
        ConfigError: invalid configuration.
        NotFiniteError: a loss is not finite; the last checkpoint is good.
    """
    vae = vae_of(config, ranks) if config.sample_every and ranks.first else None  # fail before hours of training
    stage = build(config, draw, ranks)
    done = checkpoint.resume(stage, folder)
    if done > config.steps:
        raise ConfigError(f"{folder} already holds {done} steps, more than the configured {config.steps}")
    scalars: dict[str, float] = {}  # the newest value of each scalar: not every step reports all of them
    with TrainingLog(folder if ranks.first else None) as training_log:
        for step in range(done, config.steps):
            scalars |= stage.step(step)
            if (step + 1) % config.log_every == 0:
                training_log.write(step + 1, config.steps, scalars)
                scalars = {}
            last = step + 1 == config.steps
            if last or (step + 1) % config.save_every == 0:
                checkpoint.save(stage, folder, step + 1)
            if config.sample_every and (last or (step + 1) % config.sample_every == 0):
                sample_film(stage, vae, folder / "samples" / f"step-{step + 1:06d}.mp4", training_log, step + 1)
    return checkpoint.checkpoints(folder)[-1]


class TrainingLog:
    """Writes scalars and pictures to TensorBoard and the log; does nothing on ranks but the first (folder None)."""

    def __init__(self, folder: Path | None):
        self.writer, self.started = None, time.monotonic()
        if folder is not None:
            self.writer = needed("torch.utils.tensorboard").SummaryWriter(str(folder))

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *exception) -> None:
        if self.writer:
            self.writer.close()

    def write(self, step: int, steps: int, scalars: dict[str, float]) -> None:
        if not self.writer:
            return
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.writer.add_scalar("seconds", time.monotonic() - self.started, step)
        log.info("step %d of %d: %s", step, steps, ", ".join(f"{name} {value:.4g}" for name, value in scalars.items()))

    def picture(self, name: str, image, step: int) -> None:
        """Record a picture. image: uint8 [H, W, 3]."""
        if self.writer:
            self.writer.add_image(name, image, step, dataformats="HWC")


@torch.no_grad()
def sample_film(stage: Stage, vae: WanVAE | None, path: Path, training_log: TrainingLog, step: int) -> None:
    """Render the stage's prompts with a recache between them, as at inference.

    Every rank must call this; the first one, which has the VAE, writes the file.
    """
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
    training_log.picture("film", np.concatenate(frames[:: max(1, len(frames) // 8)], axis=1), step)
