"""Settings of a training's models, optimisers, LoRA and causal start; each checks itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import WEIGHT_SETS


class ConfigError(ValueError):
    """The configuration is invalid."""


@dataclass(frozen=True)
class ModelFiles:
    """Files of the models; "pocket" is the built-in one.

    Attributes:
        student: the model to train; for the causal start, its bidirectional initial weights.
        teacher: the real score, bidirectional; it may differ from the student in width and depth. It also samples the
            causal start's clips (`train-clips`); if it is left out, the student's initial weights do.
        critic: initial weights of the fake score; the causal start has none.
        text_encoder: shared by all models.
        vae: for sample films, and for `first_latent: image` in films of several clips.
        student_weights, teacher_weights, critic_weights: which weights to take from a file that holds both the weights
            and their moving average: `generator`, `generator_ema`, or `auto`, the weights (docs/checkpoints.md).
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
    """AdamW; defaults of betas and rates are those of LongLive's long tuning.

    Attributes:
        average: decay of the exponential moving average of the weights (EMA); 0: no averaging.
        average_from: first step of the EMA, counted in this optimiser's own steps: the student's 40 are 200 of the
            critic's, LongLive's `ema_start_step`.
        clip: maximum norm of the gradients.

    ConfigError for values that would silently train nothing, or diverge.
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
        alpha: the update is scaled by alpha / rank; the default is the rank.
        critic: whether the critic gets a LoRA too, not only the student.
    """

    rank: int = 256
    alpha: float | None = None
    critic: bool = True

    def __post_init__(self):
        if self.alpha is None:
            object.__setattr__(self, "alpha", float(self.rank))
        if self.rank < 1:
            raise ConfigError(f"LoRA rank {self.rank}: it must be at least 1; remove `lora` to tune all weights")
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"LoRA alpha {self.alpha}: it must be above 0; usually it equals the rank")


@dataclass(frozen=True)
class CausalSettings:
    """The causal start (`causal_start/`); the defaults of steps and levels are Causal Forcing's.

    Attributes:
        clips: a folder of clips (`data/clip_files.py`).
        autoregressive_steps: steps of the first half, flow matching by teacher forcing. 0: the student is causal.
        consistency_steps: steps of the second half, whose teacher is the first half's result.
        levels: levels of the teacher's sampler; the denoising steps must be among them.
        target_average: decay of the target, the student's moving average, in the second half. Checkpoints hold this
            average as the student.
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
