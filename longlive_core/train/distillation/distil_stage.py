"""One step of a distillation, short or long: the critic follows the student's films, the student the teacher's view.

Every step the critic learns from a new clip; before every `critic_updates`-th critic step the student learns from one
of its own (DMD2, two time scales; Self-Forcing and LongLive: five to one). Both take their clips from the same running
films, one clip after another, and a new batch of films begins when the last is done.

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
    """The state of a distillation between two steps, and the step.

    Args:
        student, critic: what is trained.
        teacher: the real score.
        encode: texts to embeddings; all three models read the same.
        draw: (film number, films of this rank, rank, ranks) -> prompt pairs, see `prompts.PromptStream.draw`.
        as_image: see `streaming.LongFilm`.
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
                "the student learns only from the clips %s of each film's %d, since one of %d in a row is its: "
                "choose a `lengths.longest` of another number of clips",
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
        self.begun = 0  # batches of films so far

    def step(self, step: int) -> dict[str, float]:
        """Do step `step`; returns scalars for the log. Raises NotFiniteError before any weight is spoilt."""
        told: dict[str, float] = {}
        if step % self.config.critic_updates == 0:
            told.update(self._student_step(step))
        told.update(self._critic_step(step))
        told["film/clip"] = float(self.film.clips)
        return told

    def _student_step(self, step: int) -> dict[str, float]:
        window, prompts = self._next_clip(step, "student")
        timesteps, noise = self._scores_draw(step, "student", window)
        direction = self.scores.direction(window.latents, prompts, timesteps, noise)
        loss = 0.5 * float(direction[:, :, -window.new_frames :].square().mean())
        loss = self._finite(loss, step, "student's loss", "the teacher")
        self.shot.backward(window.rolled, loss_gradient(direction, window.new_frames))
        norm = self.student.move(self.config.student_optimiser, step // self.config.critic_updates)
        self._finite(norm, step, "student's gradient", "the teacher")
        return {
            "student/dmd": loss,
            "student/gradient_norm": norm,
            "student/direction": self.ranks.mean(float(direction.abs().mean())),
        }

    def _critic_step(self, step: int) -> dict[str, float]:
        window, prompts = self._next_clip(step, "critic")
        timesteps, noise = self._scores_draw(step, "critic", window)
        loss = self.scores.critic_loss(window.latents, prompts, timesteps, noise, window.new_frames)
        value = self._finite(float(loss.detach()), step, "critic's loss", "the student's films")
        loss.backward()
        norm = self.critic.move(self.config.critic_optimiser, step)
        self._finite(norm, step, "critic's gradient", "the student's films")
        return {"critic/loss": value, "critic/gradient_norm": norm}

    def _next_clip(self, step: int, purpose: str) -> tuple[ScoredClip, ScorePrompts]:
        if self.film is None or self.film.finished:
            self._begin_film()
        passes = len(self.config.stream.denoising_steps)
        window = self.film.next_clip(choice(passes, self.config.seed, "exit step", step, purpose))
        return window, ScorePrompts(window.context, self.unconditional)

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

    def _scores_draw(self, step: int, purpose: str, window: ScoredClip) -> tuple[Tensor, Tensor]:
        seed, device = self.config.seed, window.latents.device
        even = uniform(self.items, seed, purpose, "timestep", step)
        noise = normal(window.latents.shape[1:], self.items, seed, purpose, "noise", step)
        return timesteps_of(even, self.config.score_shift).to(device), noise.to(device)

    def _finite(self, value: float, step: int, what: str, look_at: str) -> float:
        return finite(self.ranks, value, step, what, look_at)

    def sample_prompts(self) -> PromptPair:
        """The first prompts of the data."""
        return self.draw(0, 1, 0, 1)[0]

    def state_dict(self) -> dict:
        """All that later steps depend on, of this rank."""
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
