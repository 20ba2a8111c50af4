"""Stages `tune` and `stream`: the transformer, trained on at any place of long films with changes of prompt.

The model films some windows itself, from a few true chunks on; where its chunks are still near the truth they are the
context it learns to go on from, as it will have to. A change of prompt is trained as the rollout meets it: early in a
film, where the sink is rebuilt, and deep in it, where the sink keeps the first prompt, with the chunks after it.
`tune` begins with true chunks and films at most seven of its own; `stream` goes on from its own cache for minutes.

Shapes: C channels, T latent frames, h, w latent size.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import UMT5EncoderModel

from ..device.precision import working_dtype
from ..engine.noise import AddressedNoise
from ..engine.shot import Shot
from ..model import WanModel
from ..toybox.captions import caption
from ..toybox.world import Attributes
from ..train.causal_start.teacher_forcing import LAST_SLOT, ForcingLayout, matmul_attention
from ..train.distillation.self_forcing import nothing
from ..train.optimiser import MasterAdam, cosine_rate, submodule
from ..train.parallel import Ranks
from .clip_pool import CHUNK, Clip, ClipPool
from .curriculum import Curriculum
from .language import encode_tokens, encoder_config, to_wan_width, tokens_of
from .long_clip_pool import LongPool, Window, subject_error
from .streams import Streams
from .train_dit import STREAM, DitRecipe, Forcing, Journal, is_block_matrix

RANK_SEEDS = 1000  # between the seeds of two ranks' films and noise
ONE_RANK = Ranks()
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
    changes: float = 0.0  # share of the steps on nothing but the chunk after a late change of prompt
    streams: int = 0  # films that are rolled on side by side, none in `tune`
    stream_every: int = 12  # steps
    stream_chunks: int = 4  # by which they are rolled on
    stream_films: int = 16  # true ones before the first step
    films_per_step: float = 0.03


@dataclass(frozen=True)
class StreamRecipe(TuneRecipe):
    """How the tuned transformer goes on with streams of its own; the defaults made the shipped weights."""

    steps: int = 1800
    rate: float = 4e-4
    matrix_rate: float = 0.005
    first_clips: int = 32
    clips_per_step: float = 0.0
    guess_rate: float = 0.85
    guess_age: int = 200
    roll_every: int = 24
    streams: int = 8


class LongForcing(Forcing):
    """Teacher forcing over windows of long films."""

    recipe: TuneRecipe

    def __init__(self, model: WanModel, encoder: UMT5EncoderModel, recipe: TuneRecipe, seed: int):
        super().__init__(model, encoder, recipe, seed)
        self.wan.attention = matmul_attention  # films are made here too

    def _context(self, clips: list[Clip], latents: Tensor, plan: ForcingLayout, step: int) -> Tensor:
        clean = latents[:, :, : CHUNK * len(plan.clean)].clone()
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
        length = clip.guesses.shape[1]
        made, truth = clip.guesses.float().split(CHUNK, dim=1), clip.latents[:, :length].float().split(CHUNK, dim=1)
        weight = clip.weight[:length].float().split(CHUNK)
        errors = (subject_error(*chunk) for chunk in zip(made, truth, weight, strict=True))
        return [float(error) <= self.recipe.near for error in errors]

    @torch.no_grad()
    def film(self, clips: list[Window], plan: ForcingLayout, step: int, rng: np.random.Generator) -> float:
        """Let the model make these windows itself after one to three true chunks; returns the share that is near."""
        true = int(rng.integers(1, LAST_SLOT + 1))
        sink, previous, after = (
            self.contexts([getattr(clip, when) for clip in clips]) for when in ("before", "previous", "after")
        )
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

    def contexts(self, asked: list[Attributes]) -> Tensor:
        ids, mask = tokens_of(self.tokenizer, [caption(look, self.rng) for look in asked])
        return to_wan_width(encode_tokens(self.encoder, ids, mask))


def load(path: Path, recipe: TuneRecipe) -> tuple[WanModel, UMT5EncoderModel]:
    """Transformer and text encoder of a checkpoint, rounded to bfloat16 as the shipped files are."""
    weights = torch.load(path, weights_only=True)["weights"]
    model, encoder = WanModel(recipe.model_config()), UMT5EncoderModel(encoder_config())
    model.load_state_dict(submodule(weights, "dit"))
    encoder.load_state_dict(submodule(weights, "text"), strict=False)
    return tuple(part.to(torch.bfloat16).to(working_dtype()) for part in (model, encoder))


def train(
    starts: ClipPool,
    pool: LongPool,
    folder: Path,
    seed: int,
    recipe: TuneRecipe = TuneRecipe(),
    true_films: LongPool | None = None,
    who: Ranks = ONE_RANK,
) -> Path:
    """Tune `folder/dit.pt` into `tuned.pt` or, with streams, `tuned.pt` into `streamed.pt` (averaged float32 weights).

    Streams leave the text encoder as it is: the earlier transformers, which it serves as well, stay what they are.

    Args:
        true_films: what the streams of the recipe are held against.
        who: of several ranks, each draws batches of its own, and the gradients' mean moves the weights.
    """
    begin, end = ("tuned", "streamed") if recipe.streams else ("dit", "tuned")
    torch.manual_seed(seed)
    rng, kinds = (np.random.default_rng((seed, recipe.streams, *more)) for more in ((2, who.rank), (3,)))
    model, encoder = load(folder / f"{begin}.pt", recipe)
    forcing = LongForcing(model, encoder, recipe, seed + RANK_SEEDS * who.rank)
    trained = {"dit": model, "heads": forcing.grounding, **({} if recipe.streams else {"text": encoder})}
    fixed = {} if "text" in trained else {f"text.{key}": value.float() for key, value in encoder.state_dict().items()}
    encoder.requires_grad_("text" in trained)
    optimiser = MasterAdam(trained, weight_decay=0.01, average=recipe.average, ramp=True, matrix=is_block_matrix)
    starts.encode_starts(who.rank, who.count)
    curriculum, journal = Curriculum(starts, pool, rng, kinds, recipe.changes), Journal()
    streams = Streams(forcing.wan, forcing.contexts, true_films, recipe.streams, recipe.near, rng)
    for step in range(recipe.steps):
        pool.grow(recipe.first_clips + int(step * recipe.clips_per_step))
        if step % recipe.roll_every == 0:
            name, near = curriculum.film(
                lambda windows, plan, now=step: forcing.film(windows, plan, now, rng),
                recipe.rolled_clips,
                step - recipe.guess_age,
            )
            journal.keep(name, {"near": near})
        if recipe.streams and step % recipe.stream_every == 0:
            true_films.grow(recipe.stream_films + int(step * recipe.films_per_step))
            windows, near = streams.advance(recipe.stream_chunks, step)
            curriculum.take(windows, step - recipe.guess_age)
            journal.keep("stream", {"near": near})
        name, clips, plan = curriculum.draw(recipe.guess_rate)
        loss, errors = forcing.step(clips, plan, step)
        loss.backward()
        who.mean_gradients(optimiser.params)
        share = cosine_rate(step, recipe.steps, 1.0, recipe.warmup)
        optimiser.step(share * recipe.rate, share * recipe.matrix_rate)
        journal.note(step, float(loss.detach()), errors, name, len(pool.clips))
        if who.first and (step % 100 == 99 or step + 1 == recipe.steps):
            torch.save({"weights": optimiser.averaged() | fixed, "step": step + 1}, folder / f"{end}.pt")
    return folder / f"{end}.pt"
