"""Shared by the training stages: random draws, one step of the optimiser, the log and the checkpoints.

Weights in a checkpoint are named by their part: `dit.` the transformer, `text.` the text encoder, `heads.` the heads of
the auxiliary task (`grounding.py`), which are dropped after training.
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from ..config import PRESETS, ModelConfig
from ..device.precision import working_dtype
from ..engine.noise import AddressedNoise
from ..model import WanModel
from ..train.optimiser import MasterAdam, submodule
from ..train.parallel import Ranks
from .language import encoder_config

POCKET = PRESETS["pocket"]  # window, sink, chunk and denoising steps
TRANSFORMER = ModelConfig(dim=256, ffn_dim=768, num_heads=2, num_layers=6)
SAVE_EVERY = 100  # steps
LOG_EVERY = 25  # steps; also the number of values in a reported mean
ONE_RANK = Ranks()
log = logging.getLogger(__name__)


class Draws:
    """The random numbers of a stage: NumPy's for choices and wordings, PyTorch's for noise and timesteps."""

    def __init__(self, seed: int):
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)

    def noise(self, like: Tensor) -> Tensor:
        """Draw standard normal noise, float32, in the shape of `like`."""
        return torch.randn(like.shape, generator=self.generator)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw uniform numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, dtype=dtype)

    def film_noise(self, films: int) -> AddressedNoise:
        """Return the noise of this many films, each from its own seed."""
        return AddressedNoise([int(self.rng.integers(2**31)) for _ in range(films)])


def is_block_matrix(name: str) -> bool:
    """Return whether Muon updates this parameter: the matrices of the transformer's blocks."""
    return name.startswith("dit.blocks.") and name.endswith("weight") and "norm" not in name


def optimiser_for(modules: dict[str, nn.Module], average: float) -> MasterAdam:
    """Return the optimiser of a transformer's stage; it keeps an average of the weights for the export."""
    return MasterAdam(modules, weight_decay=0.01, average=average, ramp=True, matrix=is_block_matrix)


def take_step(optimiser: MasterAdam, loss: Tensor, rate: float, matrix_rate: float, ranks: Ranks = ONE_RANK) -> float:
    """Update the weights by the gradient of `loss`, averaged over all ranks; return the gradient's norm."""
    loss.backward()
    ranks.mean_gradients(optimiser.params)
    return optimiser.step(rate, matrix_rate)


class StageLog:
    """Logs every 25 steps the mean of the last 25 losses, and of the last 25 values of every other measure by name."""

    def __init__(self) -> None:
        self.started, self.losses, self.history = time.monotonic(), [], {}

    def add(self, name: str, values: dict[str, float]) -> None:
        """Record measures of the steps of one kind."""
        for measure, value in values.items():
            self.history.setdefault((name, measure), []).append(value)

    def step(self, step: int, loss: Tensor, name: str, values: dict[str, float]) -> None:
        """Record one step, and write a line if it is due."""
        self.losses.append(float(loss.detach()))
        self.add(name, values)
        if step % LOG_EVERY == LOG_EVERY - 1:
            measures = " ".join(
                f"{name}:{measure}:{np.mean(self.history[name, measure][-LOG_EVERY:]):.3f}"
                for name, measure in sorted(self.history)
            )
            loss_mean, seconds = np.mean(self.losses[-LOG_EVERY:]), time.monotonic() - self.started
            log.info("step %d loss %.4f | %s | %.0f s", step + 1, loss_mean, measures, seconds)


def save_when_due(
    path: Path, optimiser: MasterAdam, step: int, steps: int, frozen: dict[str, Tensor] | None = None
) -> None:
    """Write the averaged weights and the `frozen` ones, float32, every 100 steps and after the last one."""
    if step % SAVE_EVERY == SAVE_EVERY - 1 or step + 1 == steps:
        torch.save({"weights": optimiser.averaged() | (frozen or {}), "step": step + 1}, path)


def load_checkpoint(path: Path, config: ModelConfig) -> tuple[WanModel, UMT5EncoderModel]:
    """Load transformer and text encoder, rounded to bfloat16 as the shipped files are."""
    weights = torch.load(path, weights_only=True)["weights"]
    model, encoder = WanModel(config), UMT5EncoderModel(encoder_config())
    model.load_state_dict(submodule(weights, "dit"))
    encoder.load_state_dict(submodule(weights, "text"), strict=False)
    return tuple(part.to(torch.bfloat16).to(working_dtype()) for part in (model, encoder))


def frozen_text(encoder: UMT5EncoderModel) -> dict[str, Tensor]:
    """Return the weights of a text encoder that a stage leaves unchanged, as its checkpoint holds them."""
    return {f"text.{name}": value.float() for name, value in encoder.state_dict().items()}
