"""Stage `tune`: the transformer of the stage `dit`, trained on at any place of long films with changes of prompt.

The model films some windows itself, from a few true chunks on; where its chunks are still near the truth they are the
context it learns to go on from, as it will have to. A change of prompt is trained as the rollout meets it: early in a
film, where the sink is rebuilt, and deep in it, where the sink keeps the first prompt, with the chunks after it.

Shapes: C channels, T latent frames, h, w latent size.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import UMT5EncoderModel

from ..model import WanModel
from ..noise import AddressedNoise
from ..rollout import Shot
from ..train.optimiser import MasterAdam, cosine_rate, submodule
from ..train.self_forcing import nothing
from ..train.teacher_forcing import LAST_SLOT, Plan
from .captions import caption
from .clips import CHUNK, Clip, ClipPool
from .curriculum import Curriculum
from .language import encode_tokens, encoder_config, to_wan_width, tokens_of
from .long_clips import LongPool, Window
from .train_dit import STREAM, DitRecipe, Forcing, Journal, is_block_matrix
from .world import Attributes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuneRecipe(DitRecipe):
    """How the transformer is tuned; the defaults made the shipped weights."""

    steps: int = 3600
    rate: float = 7e-4
    matrix_rate: float = 0.008
    average: float = 0.998
    first_clips: int = 64
    clips_per_step: float = 0.08
    subject_weight: float = 6.0
    grounding: float = 0.25
    guess_rate: float = 0.7
    guess_age: int = 400
    roll_every: int = 12
    near: float = 0.8  # largest error of an own chunk that serves as context, against the true one


class LongForcing(Forcing):
    """Teacher forcing over windows of long films."""

    recipe: TuneRecipe

    def _context(self, clips: list[Clip], latents: Tensor, plan: Plan, step: int) -> Tensor:
        clean = latents[:, :, :CHUNK * len(plan.clean)].clone()
        for row, clip in enumerate(clips):
            near = [False] * len(plan.clean) if clip.guesses is None else self._near(clip)
            for chunk in plan.clean:
                place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
                if near[chunk]:
                    clean[row, :, place] = clip.guesses[:, place].float()
                else:
                    amount = self.recipe.context_noise * self.rng.random()
                    clean[row, :, place] += amount * self._noise(clean[row, :, place])
        return clean

    def _near(self, clip: Clip) -> list[bool]:
        """For each chunk that the model filmed, whether its error, weighted by the subject, is small."""
        made = clip.guesses.shape[1]
        weight = clip.weight[:made].float()
        squares = (clip.guesses.float() - clip.latents[:, :made].float()).square().mean(dim=0) * weight
        errors = [part.sum() / of.sum().clamp(min=1e-3)
                  for part, of in zip(squares.split(CHUNK), weight.split(CHUNK), strict=True)]  # fmt: skip
        return [float(error) <= self.recipe.near for error in errors]

    @torch.no_grad()
    def film(self, clips: list[Window], plan: Plan, step: int, rng: np.random.Generator) -> float:
        """Let the model make these windows itself after one to three true chunks; returns the share that is near."""
        true = int(rng.integers(1, LAST_SLOT + 1))
        sink, previous, after = (self._contexts([getattr(clip, when) for clip in clips])
                                 for when in ("before", "previous", "after"))  # fmt: skip
        latents = torch.stack([clip.latents for clip in clips]).float().split(CHUNK, dim=2)
        noise = AddressedNoise([int(self.rng.integers(2**31)) for _ in clips])
        shot = Shot(self.wan, STREAM, tuple(latents[0].shape[-2:]), len(clips), capacity=CHUNK * (plan.chunks + 1))
        shot.switch(sink if plan.held else previous, "cut", nothing)
        made = []
        for chunk in plan.clean:
            if plan.held and chunk == 1:
                shot.feed(latents[0])  # past the window, so that the recache holds the sink
                shot.switch(previous, "keep", nothing)
            if plan.switch and chunk == plan.switch:
                shot.switch(after, "recache", nothing)
            if chunk < true:
                shot.feed(latents[chunk])
            made.append(latents[chunk] if chunk < true else shot.next_chunk(noise, nothing))
        for clip, guesses in zip(clips, torch.cat(made, dim=2), strict=True):
            clip.guesses, clip.guessed_at = guesses.half(), step
        return float(np.mean([self._near(clip)[true:] for clip in clips]))

    def _contexts(self, asked: list[Attributes]) -> Tensor:
        ids, mask = tokens_of(self.tokenizer, [caption(look, self.rng) for look in asked])
        return to_wan_width(encode_tokens(self.encoder, ids, mask))


def load(path: Path, recipe: TuneRecipe) -> tuple[WanModel, UMT5EncoderModel]:
    """Transformer and text encoder of a checkpoint, rounded to bfloat16 as the shipped files are."""
    weights = torch.load(path, weights_only=True)["weights"]
    model, encoder = WanModel(recipe.model_config()), UMT5EncoderModel(encoder_config())
    model.load_state_dict(submodule(weights, "dit"))
    encoder.load_state_dict(submodule(weights, "text"), strict=False)
    return model.to(torch.bfloat16), encoder.to(torch.bfloat16)


def train(starts: ClipPool, pool: LongPool, folder: Path, seed: int, recipe: TuneRecipe = TuneRecipe()) -> Path:
    """Tune `folder/dit.pt`; write `folder/tuned.pt` (averaged float32 weights)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng((seed, 2))
    model, encoder = load(folder / "dit.pt", recipe)
    forcing = LongForcing(model, encoder, recipe, seed)
    optimiser = MasterAdam({"dit": model, "text": encoder, "heads": forcing.grounding}, weight_decay=0.01,
                           average=recipe.average, ramp=True, matrix=is_block_matrix)  # fmt: skip
    starts.encode_starts()
    curriculum, journal = Curriculum(starts, pool, rng), Journal()
    for step in range(recipe.steps):
        pool.grow(recipe.first_clips + int(step * recipe.clips_per_step))
        if step % recipe.roll_every == 0:
            name, near = curriculum.film(lambda windows, plan, now=step: forcing.film(windows, plan, now, rng),
                                         recipe.rolled_clips, step - recipe.guess_age)  # fmt: skip
            journal.keep(name, {"near": near})
        name, clips, plan = curriculum.draw(recipe.guess_rate)
        loss, errors = forcing.step(clips, plan, step)
        loss.backward()
        share = cosine_rate(step, recipe.steps, 1.0, recipe.warmup)
        optimiser.step(share * recipe.rate, share * recipe.matrix_rate)
        journal.note(step, float(loss.detach()), errors, name, len(pool.clips))
        if step % 100 == 99 or step + 1 == recipe.steps:
            torch.save({"weights": optimiser.averaged(), "step": step + 1}, folder / "tuned.pt")
    return folder / "tuned.pt"
