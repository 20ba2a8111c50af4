"""What the stages of a training share: the protocol that loop, checkpoints and journal know, and the guards of a step.

A stage is the short or long distillation (`distil.py`) or the causal start (`causal_stage.py`).
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
"""Texts -> embeddings [N, text tokens, text_dim]."""


class NotFiniteError(ValueError):
    """The loss is NaN or infinite; says at which step and in what."""


@dataclass
class Trainee:
    """A model in training and its optimiser."""

    model: TrainableWan
    optimiser: MasterAdam

    def move(self, settings: OptimiserSettings, count: int) -> float:
        """Apply the gradients, as the `count`-th time; returns their norm. One that is not finite moves nothing."""
        warm = min(1.0, (count + 1) / settings.warmup) if settings.warmup else 1.0
        return self.optimiser.step(settings.rate * warm)


class Stage(Protocol):
    """A training between two steps. All that later steps depend on is in the step's number and in `state_dict`.

    Attributes:
        student: what is trained; a checkpoint holds its averaged weights, sample films are made with its newest ones.
        encode: texts to embeddings.
    """

    config: Config
    ranks: Ranks
    student: Trainee
    encode: Encode

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns scalars for the log. Raises NotFiniteError before any weight is spoilt."""

    def state_dict(self) -> dict:
        """This rank's part of the state: tensors, numbers, lists and tables of them."""

    def load_state_dict(self, state: dict) -> None:
        """Go on from a saved state. ValueError: it is of another training."""

    def sample_prompts(self) -> PromptPair:
        """What sample films show."""


def optimiser_of(name: str, model: TrainableWan, settings: OptimiserSettings) -> MasterAdam:
    """The optimiser of one model; its weights are called `name.parameter`."""
    return MasterAdam(
        {name: model.module},
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        average=settings.average,
        average_from=settings.average_from,
        clip=settings.clip,
    )


def finite(ranks: Ranks, value: float, step: int, what: str, look_at: str) -> float:
    """The mean of a number over all ranks, so that all stop together. NotFiniteError, with the step, if it is none."""
    value = ranks.mean(value)
    if not math.isfinite(value):
        raise NotFiniteError(
            f"step {step}: the {what} is {value}; no weight was moved by it, and the last checkpoint "
            f"is good: go on from there with a lower rate, or look at {look_at}"
        )
    return value
