"""Settings of a training's models, optimisers, LoRA and causal start; each checks itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import WEIGHT_SETS


class ConfigError(ValueError):
    """A configuration says something that cannot be."""


@dataclass(frozen=True)
class ModelFiles:
    """Files of the models; "pocket" is the built-in one.

    Attributes:
        student: what is trained; for the causal start the bidirectional weights that it starts from.
        teacher: the real score, bidirectional; another width and depth than the student's are fine. It also makes the
            causal start's clips (`train-clips`), unless it is left out: then what the student starts from does.
        critic: what the fake score starts from; the causal start has none.
        text_encoder: of all of them.
        vae: for sample films, and for `first_latent: image` in films of several clips.
        student_weights, teacher_weights, critic_weights: of a file that holds the weights and their moving average:
            `generator`, `generator_ema`, or `auto`, the weights (docs/checkpoints.md).
    """

    student: str
    teacher: str | None = None
    critic: str | None = None
    text_encoder: str | None = None
    vae: str | None = None
    student_weights: str = "auto"
    teacher_weights: str = "auto"
    critic_weights: str = "auto"

    def __post_init__(self):
        for role in ("student", "teacher", "critic"):
            given = getattr(self, f"{role}_weights")
            if given not in WEIGHT_SETS:
                raise ConfigError(f"models.{role}_weights {given!r}: allowed are {', '.join(WEIGHT_SETS)}")


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW; betas and rates as LongLive's long tuning has them.

    Attributes:
        average: how much of the exponential average of the weights (EMA) stays at a step; 0: none.
        average_from: the step from which on it is kept. Steps are this optimiser's own: the student's 40 are 200 of the
            critic's, LongLive's `ema_start_step`.
        clip: largest norm of the gradients.

    ConfigError for what would train nothing, or blow up, without a word.
    """

    rate: float = 1e-5
    betas: tuple[float, float] = (0.0, 0.999)
    weight_decay: float = 0.01
    clip: float = 10.0
    average: float = 0.0
    average_from: int = 40
    warmup: int = 0

    def __post_init__(self):
        allowed = {
            "rate": (0 <= self.rate < math.inf, "0 or more"),
            "betas": (len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two, from 0 to below 1"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
            "clip": (self.clip > 0, "above 0; a very large one does not clip"),
            "average": (0 <= self.average < 1, "from 0 (none) to below 1, such as 0.99"),
            "average_from": (self.average_from >= 0, "0 or more"),
            "warmup": (self.warmup >= 0, "0 or more"),
        }
        for name, (fine, wanted) in allowed.items():
            if not fine:
                raise ConfigError(f"{name} {getattr(self, name)} of an optimiser: allowed is {wanted}")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank tuning of all linear layers of the blocks (PEFT).

    Attributes:
        alpha: the update is scaled by alpha / rank; left out, it is as large as the rank.
        critic: the critic too, not only the student.
    """

    rank: int = 256
    alpha: float | None = None
    critic: bool = True

    def __post_init__(self):
        if self.alpha is None:
            object.__setattr__(self, "alpha", float(self.rank))
        if self.rank < 1:
            raise ConfigError(f"LoRA rank {self.rank}: it must be at least 1; leave `lora` out for full tuning")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"LoRA alpha {self.alpha}: it must be above 0; as large as the rank is usual")


@dataclass(frozen=True)
class CausalSettings:
    """The causal start (`causal_start.py`); clips, steps and levels as Causal Forcing has them.

    Attributes:
        clips: a folder of clips (`clip_files.py`).
        autoregressive_steps: of the first half, flow matching by teacher forcing. 0: the student is causal already.
        consistency_steps: of the second half, whose teacher is the first half's result.
        levels: of the teacher's sampler; the few denoising steps must be among them.
        target_average: how much of the target, the student's moving average, stays at each step of the second half.
            The student that is written is this average.
        prompt_left_out: share of clips that the first half shows without their prompt, for the second half's guidance.
    """

    clips: str
    autoregressive_steps: int = 2000
    consistency_steps: int = 3000
    levels: int = 48
    target_average: float = 0.99
    prompt_left_out: float = 0.1

    def __post_init__(self):
        steps = self.autoregressive_steps, self.consistency_steps
        if min(steps) < 0 or not sum(steps):
            raise ConfigError(
                f"causal.autoregressive_steps {steps[0]} and causal.consistency_steps {steps[1]}: "
                "neither may be negative, and one must be above 0"
            )
        if not 0 <= self.target_average < 1:
            raise ConfigError(
                f"causal.target_average {self.target_average:g}: allowed is from 0 (the student itself) "
                "to below 1, such as 0.99"
            )
        if not 0 <= self.prompt_left_out < 1:
            raise ConfigError(f"causal.prompt_left_out {self.prompt_left_out}: it is a share, from 0 to below 1")

    @property
    def steps(self) -> int:
        return self.autoregressive_steps + self.consistency_steps
