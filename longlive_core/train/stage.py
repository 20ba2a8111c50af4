"""What all training stages share: the protocol that the loop and the checkpoints use, and the guards of a step.

A stage is the short or long distillation (`distil_stage.py`) or the causal start (`causal_stage.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .config import Config
from .data.prompt_files import PromptPair
from .optimiser import MasterAdam
from .parallel import Ranks
from .settings import OptimiserSettings
from .trainable import TrainableWan

Encode = Callable[[Sequence[str]], Tensor]
"""Encode N texts as embeddings [N, text tokens, text_dim]."""


class NotFiniteError(ValueError):
    """A loss or gradient is NaN or infinite; the message names the step and the quantity."""


@dataclass
class Trainee:
    """A model in training and its optimiser."""

    model: TrainableWan
    optimiser: MasterAdam

    def move(self, settings: OptimiserSettings, count: int) -> float:
        """Apply the gradients of update number `count` and return their norm. A non-finite norm changes no weight."""
        warm = min(1.0, (count + 1) / settings.warmup) if settings.warmup else 1.0
        return self.optimiser.step(settings.rate * warm)


class Stage(Protocol):
    """A training between two steps. Later steps depend only on the step number and on `state_dict`.

    Attributes:
        student: the model being trained; checkpoints hold its averaged weights, sample films use its newest ones.
        encode: text encoder.
    """

    config: Config
    ranks: Ranks
    student: Trainee
    encode: Encode

    def step(self, step: int) -> dict[str, float]:
        """Run step `step` and return scalars for the log. Raises NotFiniteError before any weight is corrupted."""

    def state_dict(self) -> dict:
        """Return this rank's part of the state: tensors, numbers, and lists and dicts of them."""

    def load_state_dict(self, state: dict) -> None:
        """Resume from a saved state. ValueError: the state belongs to another training."""

    def sample_prompts(self) -> PromptPair:
        """Return the prompts of sample films."""


def optimiser_of(name: str, model: TrainableWan, settings: OptimiserSettings) -> MasterAdam:
    """Create the optimiser of one model; its weights are named `name.parameter`."""
    return MasterAdam(
        {name: model.module},
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        average=settings.average,
        average_from=settings.average_from,
        clip=settings.clip,
    )


def finite(ranks: Ranks, value: float, step: int, what: str, culprit: str) -> float:
    """Return the mean of a number over all ranks, so that all stop together. NotFiniteError if it is not finite."""
    value = ranks.mean(value)
    if not math.isfinite(value):
        raise NotFiniteError(
            f"step {step}: the {what} is {value}; no weight was updated with it, and the last checkpoint "
            f"is good: resume from there with a lower rate, or check {culprit}"
        )
    return value
