"""One step of the causal start: first an autoregressive model, then a few-step student distilled from it.

The first half trains with `losses.autoregressive_loss`; each chunk has its own timestep, and some clips are shown
without their prompt. Between the halves the result (the averaged weights, if averaging is on) is frozen as the teacher,
and the student and its moving average continue from it with a new optimiser. The second half trains with
`losses.Consistency`; its checkpoints hold the moving average, which is the result in Causal Forcing.

Shapes: B clips of this rank, C channels, T latent frames, h, w latent size, N chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...config import TRAIN_TIMESTEPS
from ..addressed_random import normal, uniform
from ..config import Config
from ..data.clip_files import ClipStream
from ..data.prompt_files import PromptPair
from ..flow_matching import timesteps_of
from ..optimiser import MasterAdam, local
from ..parallel import Ranks
from ..stage import Encode, Trainee, finite, optimiser_of
from ..trainable import TrainableWan
from .losses import Consistency, ForcedClips, autoregressive_loss


class CausalStage:
    """The causal start as a `stage.Stage`: its state between two steps, and the step.

    Args:
        student: the model to train; at the start it holds the bidirectional weights.
        teacher, target: two more models of the same shape, for the second half; their initial weights are not used.
        clips: the training clips.

    Raises:
        ValueError: the clips do not fit the student, `size` or the chunk.
    """

    def __init__(
        self,
        config: Config,
        student: TrainableWan,
        teacher: TrainableWan,
        target: TrainableWan,
        encode: Encode,
        clips: ClipStream,
        ranks: Ranks,
    ):
        clips.clips.check(config.latent_size, config.stream.chunk, student.config.in_dim)
        self.config, self.settings, self.ranks = config, config.causal, ranks
        self.encode, self.clips = encode, clips
        self.student = Trainee(student, optimiser_of("student", student, config.student_optimiser))
        self.teacher, self.target = teacher, target
        for model in (teacher, target):
            model.module.requires_grad_(False)
        self.unconditional = encode([config.negative_prompt] * config.batch)
        self.items = ranks.items(config.batch)
        self.second_half = False

    def step(self, step: int) -> dict[str, float]:
        """Run step `step` and return scalars for the log. Raises NotFiniteError before any weight is corrupted."""
        if step < self.settings.autoregressive_steps:
            return self._autoregressive_step(step)
        if not self.second_half:
            self._begin_consistency()
        return self._consistency_step(step)

    def _autoregressive_step(self, step: int) -> dict[str, float]:
        forced, prompts, noise = self._draw(step)
        draws = uniform(self.items, self.config.seed, "causal", "timestep", step, shape=[self._chunks(forced)])
        timesteps = timesteps_of(draws, self.config.stream.shift, 0, TRAIN_TIMESTEPS)
        left_out = uniform(self.items, self.config.seed, "causal", "prompt", step) < self.settings.prompt_left_out
        texts = ["" if out else prompt for out, prompt in zip(left_out, prompts, strict=True)]
        keys = self.student.model.prompt_keys(self.encode(texts))
        loss = autoregressive_loss(self.student.model, forced, noise, timesteps, keys)
        return self._learn(loss, step, step, "autoregressive")

    def _consistency_step(self, step: int) -> dict[str, float]:
        forced, prompts, noise = self._draw(step)
        draws = uniform(self.items, self.config.seed, "causal", "level", step, shape=[self._chunks(forced)])
        consistency = Consistency(
            self.teacher, self.target, self.config.stream, self.settings.levels, self.config.guidance
        )
        loss = consistency.loss(
            self.student.model,
            forced,
            noise,
            (draws * self.settings.levels).long(),
            self.encode(prompts),
            self.unconditional,
        )
        scalars = self._learn(loss, step, step - self.settings.autoregressive_steps, "consistency")
        _put(self.target, self.student.optimiser.ema)
        return scalars

    def _learn(self, loss: Tensor, step: int, count: int, name: str) -> dict[str, float]:
        value = finite(self.ranks, float(loss.detach()), step, f"{name} loss", "the clips")
        loss.backward()
        norm = self.student.move(self.config.student_optimiser, count)
        finite(self.ranks, norm, step, f"{name} loss's gradient", "the clips")
        return {f"{name}/loss": value, f"{name}/gradient_norm": norm}

    def _draw(self, step: int) -> tuple[ForcedClips, Sequence[str], Tensor]:
        """Draw clips, their prompts, and noise [B, C, T, h, w]."""
        ranks = self.ranks
        drawn = self.clips.draw(step, self.config.batch, ranks.rank, ranks.count)
        noise = normal(drawn.latents.shape[1:], self.items, self.config.seed, "causal", "noise", step)
        return ForcedClips(drawn.latents.to(ranks.device), self.config.stream), drawn.prompts, noise.to(ranks.device)

    @staticmethod
    def _chunks(forced: ForcedClips) -> int:
        return forced.clean.shape[2] // forced.stream.chunk

    def _begin_consistency(self) -> None:
        """Freeze the autoregressive model as the teacher; student and target continue from it."""
        result = self.student.optimiser.ema
        for model in (self.teacher, self.target, self.student.model):
            _put(model, result)
        self._second_optimiser(result)

    def _second_optimiser(self, weights: Sequence[Tensor]) -> None:
        """Create the second half's optimiser, whose average is the target.

        weights: float32; the module's own are rounded to bfloat16.
        """
        settings = replace(self.config.student_optimiser, average=self.settings.target_average, average_from=0)
        optimiser: MasterAdam = optimiser_of("student", self.student.model, settings)
        torch._foreach_copy_([*optimiser.master, *optimiser.ema], [*weights, *weights])
        self.student = Trainee(self.student.model, optimiser)
        self.second_half = True

    def sample_prompts(self) -> PromptPair:
        """Return a clip's prompt, without a follow-up."""
        return PromptPair(self.clips.draw(0, 1).prompts[0])

    def state_dict(self) -> dict:
        """Return everything of this rank that later steps depend on; in the second half also the frozen teacher."""
        teacher = [weight.clone() for weight in _weights(self.teacher)] if self.second_half else None
        return {
            "student": self.student.optimiser.state_dict(),
            "teacher": teacher,
            "clips": self.clips.clips.fingerprint(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Resume from a saved state, before any step. ValueError: it belongs to other clips or other weights."""
        if state["clips"] != self.clips.clips.fingerprint():
            raise ValueError(
                f"the clips in '{self.settings.clips}' are not those that this run began with: names, "
                "shapes or prompts differ; restore them, or start a new run in another folder"
            )
        if state["teacher"] is not None:
            _put(self.teacher, state["teacher"])
            self._second_optimiser(self.student.optimiser.master)
        self.student.optimiser.load_state_dict(state["student"])
        if self.second_half:
            _put(self.target, self.student.optimiser.ema)


def _weights(model: TrainableWan) -> list[Tensor]:
    """Return this rank's shards of a model's weights."""
    return [local(weight.detach()) for weight in model.module.parameters()]


def _put(model: TrainableWan, values: Sequence[Tensor]) -> None:
    """Copy values into this rank's shards of a model's weights."""
    torch._foreach_copy_(_weights(model), list(values))
