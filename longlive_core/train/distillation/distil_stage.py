"""One step of a distillation, short or long: the critic learns the student's films, the student learns by DMD.

At every step the critic learns from a new clip; before every `critic_updates`-th critic step the student learns from a
new clip too (DMD2's two time scales; Self-Forcing and LongLive: five to one). Both take their clips from the same batch
of films, one clip after another; a new batch begins when the films are finished.

Shapes: B films of this rank, C channels, T latent frames, h, w latent size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor

from ..addressed_random import address, choice, normal, uniform
from ..config import Config
from ..data.prompt_files import PromptPair
from ..flow_matching import timesteps_of
from ..parallel import Ranks
from ..stage import Encode, Trainee, finite
from ..trainable import TrainableWan
from .dmd import ScorePrompts, Scores, loss_gradient
from .first_latent import AsImage
from .self_forcing import StudentShot
from .streaming_long_tuning import LongFilm, ScoredClip

log = logging.getLogger(__name__)


class DistilStage:
    """The distillation as a `stage.Stage`: its state between two steps, and the step.

    Args:
        student, critic: the models to train.
        teacher: the real score.
        encode: text encoder, shared by all three models.
        draw: (film number, films of this rank, rank, ranks) -> prompt pairs, see `prompt_files.PromptStream.draw`.
        as_image: see `streaming_long_tuning.LongFilm`.
    """

    def __init__(
        self,
        config: Config,
        student: Trainee,
        critic: Trainee,
        teacher: TrainableWan,
        encode: Encode,
        draw: Callable,
        ranks: Ranks,
        as_image: AsImage | None = None,
    ):
        self.config, self.student, self.critic, self.ranks, self.as_image = config, student, critic, ranks, as_image
        if len(seen := config.student_clips) < config.lengths.clips:
            log.warning(
                "the student learns only from the clips %s of each film's %d, because it gets one of %d consecutive "
                "clips: choose a `lengths.longest` that gives another number of clips",
                ", ".join(str(clip + 1) for clip in sorted(seen)),
                config.lengths.clips,
                config.critic_updates + 1,
            )
        self.scores = Scores(teacher, critic.model, config.guidance)
        self.encode, self.draw = encode, draw
        self.unconditional = encode([config.negative_prompt] * config.batch)
        self.items = ranks.items(config.batch)
        self.shot = StudentShot(
            student.model, config.stream, config.latent_size, config.batch, capacity=config.lengths.frames
        )
        self.film: LongFilm | None = None
        self.begun = 0  # number of film batches so far

    def step(self, step: int) -> dict[str, float]:
        """Run step `step` and return scalars for the log. Raises NotFiniteError before any weight is corrupted."""
        scalars: dict[str, float] = {}
        if step % self.config.critic_updates == 0:
            scalars.update(self._student_step(step))
        scalars.update(self._critic_step(step))
        scalars["film/clip"] = float(self.film.clips)
        return scalars

    def _student_step(self, step: int) -> dict[str, float]:
        clip, prompts = self._next_clip(step, "student")
        timesteps, noise = self._draw_noise(step, "student", clip)
        direction = self.scores.direction(clip.latents, prompts, timesteps, noise)
        loss = 0.5 * float(direction[:, :, -clip.new_frames :].square().mean())
        loss = self._finite(loss, step, "student's loss", "the teacher")
        self.shot.backward(clip.rolled, loss_gradient(direction, clip.new_frames))
        norm = self.student.move(self.config.student_optimiser, step // self.config.critic_updates)
        self._finite(norm, step, "student's gradient", "the teacher")
        return {
            "student/dmd": loss,
            "student/gradient_norm": norm,
            "student/direction": self.ranks.mean(float(direction.abs().mean())),
        }

    def _critic_step(self, step: int) -> dict[str, float]:
        clip, prompts = self._next_clip(step, "critic")
        timesteps, noise = self._draw_noise(step, "critic", clip)
        loss = self.scores.critic_loss(clip.latents, prompts, timesteps, noise, clip.new_frames)
        value = self._finite(float(loss.detach()), step, "critic's loss", "the student's films")
        loss.backward()
        norm = self.critic.move(self.config.critic_optimiser, step)
        self._finite(norm, step, "critic's gradient", "the student's films")
        return {"critic/loss": value, "critic/gradient_norm": norm}

    def _next_clip(self, step: int, purpose: str) -> tuple[ScoredClip, ScorePrompts]:
        if self.film is None or self.film.finished:
            self._begin_film()
        passes = len(self.config.stream.denoising_steps)
        clip = self.film.next_clip(choice(passes, self.config.seed, "exit step", step, purpose))
        return clip, ScorePrompts(clip.context, self.unconditional)

    def _begin_film(self) -> None:
        config, number = self.config, self.begun
        pairs = self.draw(number, config.batch, self.ranks.rank, self.ranks.count)
        switching = config.needs_follow_ups
        seeds = [address(config.seed, "film", number, item) for item in self.items]
        switch = 1 + choice(config.lengths.clips - 1, config.seed, "switch", number) if switching else None
        first = self.encode([pair.prompt for pair in pairs])
        then = self.encode([pair.follow_up for pair in pairs]) if switching else None
        self.film = LongFilm(self.shot, first, then, switch, seeds, config.lengths, self.as_image)
        self.begun += 1

    def _draw_noise(self, step: int, purpose: str, clip: ScoredClip) -> tuple[Tensor, Tensor]:
        """Draw the timesteps [B] and the noise at which the scores are evaluated."""
        seed, device = self.config.seed, clip.latents.device
        draws = uniform(self.items, seed, purpose, "timestep", step)
        noise = normal(clip.latents.shape[1:], self.items, seed, purpose, "noise", step)
        return timesteps_of(draws, self.config.score_shift).to(device), noise.to(device)

    def _finite(self, value: float, step: int, what: str, culprit: str) -> float:
        return finite(self.ranks, value, step, what, culprit)

    def sample_prompts(self) -> PromptPair:
        """Return the first prompts of the data."""
        return self.draw(0, 1, 0, 1)[0]

    def state_dict(self) -> dict:
        """Return everything of this rank that later steps depend on."""
        return {
            "student": self.student.optimiser.state_dict(),
            "critic": self.critic.optimiser.state_dict(),
            "begun": self.begun,
            "film": self.film.state_dict() if self.film else None,
        }

    def load_state_dict(self, state: dict) -> None:
        self.student.optimiser.load_state_dict(state["student"])
        self.critic.optimiser.load_state_dict(state["critic"])
        self.begun = state["begun"]
        if state["film"] is not None:
            self.film = LongFilm.from_state_dict(self.shot, state["film"], self.config.lengths, self.as_image)
