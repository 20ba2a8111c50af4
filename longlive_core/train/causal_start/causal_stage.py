"""One step of the causal start: first the autoregressive model, then the few-step student of it.

The first half trains by `causal_start.autoregressive_loss`, every chunk at a timestep of its own and some clips without
their prompt. At the border its result (the averaged weights, if averaging is on) is frozen as the teacher, and the
student and its moving average go on from there with a new optimiser; the second half trains by
`causal_start.Consistency`. What is written as the student is in the second half the moving average, Causal Forcing's
result.

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
    """The state of a causal start between two steps, and the step; a `stage.Stage`.

    Args:
        student: what is trained; holds the bidirectional weights at the start.
        teacher, target: two more models of its shape, for the second half; their weights do not matter yet.
        clips: what is trained on.

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
        """Do step `step`; returns scalars for the log. Raises NotFiniteError before any weight is spoilt."""
        if step < self.settings.autoregressive_steps:
            return self._autoregressive_step(step)
        if not self.second_half:
            self._begin_consistency()
        return self._consistency_step(step)

    def _autoregressive_step(self, step: int) -> dict[str, float]:
        forced, prompts, noise = self._draw(step)
        even = uniform(self.items, self.config.seed, "causal", "timestep", step, shape=[self._chunks(forced)])
        timesteps = timesteps_of(even, self.config.stream.shift, 0, TRAIN_TIMESTEPS)
        left_out = uniform(self.items, self.config.seed, "causal", "prompt", step) < self.settings.prompt_left_out
        texts = ["" if out else prompt for out, prompt in zip(left_out, prompts, strict=True)]
        keys = self.student.model.prompt_keys(self.encode(texts))
        loss = autoregressive_loss(self.student.model, forced, noise, timesteps, keys)
        return self._learn(loss, step, step, "autoregressive")

    def _consistency_step(self, step: int) -> dict[str, float]:
        forced, prompts, noise = self._draw(step)
        even = uniform(self.items, self.config.seed, "causal", "level", step, shape=[self._chunks(forced)])
        consistency = Consistency(
            self.teacher, self.target, self.config.stream, self.settings.levels, self.config.guidance
        )
        loss = consistency.loss(
            self.student.model,
            forced,
            noise,
            (even * self.settings.levels).long(),
            self.encode(prompts),
            self.unconditional,
        )
        told = self._learn(loss, step, step - self.settings.autoregressive_steps, "consistency")
        _put(self.target, self.student.optimiser.ema)
        return told

    def _learn(self, loss: Tensor, step: int, count: int, name: str) -> dict[str, float]:
        value = finite(self.ranks, float(loss.detach()), step, f"{name} loss", "the clips")
        loss.backward()
        norm = self.student.move(self.config.student_optimiser, count)
        finite(self.ranks, norm, step, f"{name} loss's gradient", "the clips")
        return {f"{name}/loss": value, f"{name}/gradient_norm": norm}

    def _draw(self, step: int) -> tuple[ForcedClips, Sequence[str], Tensor]:
        """Clips, their prompts, and noise [B, C, T, h, w]."""
        ranks = self.ranks
        drawn = self.clips.draw(step, self.config.batch, ranks.rank, ranks.count)
        noise = normal(drawn.latents.shape[1:], self.items, self.config.seed, "causal", "noise", step)
        return ForcedClips(drawn.latents.to(ranks.device), self.config.stream), drawn.prompts, noise.to(ranks.device)

    @staticmethod
    def _chunks(forced: ForcedClips) -> int:
        return forced.clean.shape[2] // forced.stream.chunk

    def _begin_consistency(self) -> None:
        """Freeze the autoregressive model as the teacher, and let student and target go on from it."""
        result = self.student.optimiser.ema
        for model in (self.teacher, self.target, self.student.model):
            _put(model, result)
        self._second_optimiser(result)

    def _second_optimiser(self, weights: Sequence[Tensor]) -> None:
        """A new optimiser, whose average is the target; float32 `weights`, because the module's are rounded."""
        settings = replace(self.config.student_optimiser, average=self.settings.target_average, average_from=0)
        optimiser: MasterAdam = optimiser_of("student", self.student.model, settings)
        torch._foreach_copy_([*optimiser.master, *optimiser.ema], [*weights, *weights])
        self.student = Trainee(self.student.model, optimiser)
        self.second_half = True

    def sample_prompts(self) -> PromptPair:
        """A clip's prompt, without a follow-up."""
        return PromptPair(self.clips.draw(0, 1).prompts[0])

    def state_dict(self) -> dict:
        """All that later steps depend on, of this rank; in the second half the frozen teacher too."""
        teacher = [weight.clone() for weight in _weights(self.teacher)] if self.second_half else None
        return {
            "student": self.student.optimiser.state_dict(),
            "teacher": teacher,
            "clips": self.clips.clips.fingerprint(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from a saved state, before any step. ValueError: it is of other clips, or of other weights."""
        if state["clips"] != self.clips.clips.fingerprint():
            raise ValueError(
                f"the clips in '{self.settings.clips}' are not those that this run began with: names, "
                "shapes or prompts differ; put them back, or begin a new run elsewhere"
            )
        if state["teacher"] is not None:
            _put(self.teacher, state["teacher"])
            self._second_optimiser(self.student.optimiser.master)
        self.student.optimiser.load_state_dict(state["student"])
        if self.second_half:
            _put(self.target, self.student.optimiser.ema)


def _weights(model: TrainableWan) -> list[Tensor]:
    """This rank's parts of a model's weights."""
    return [local(weight.detach()) for weight in model.module.parameters()]


def _put(model: TrainableWan, values: Sequence[Tensor]) -> None:
    torch._foreach_copy_(_weights(model), list(values))
