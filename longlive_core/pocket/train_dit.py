"""Stages `text` and `dit`: the text encoder and the diffusion transformer, trained from scratch on a pool of clips.

The transformer learns clean-sample prediction at exactly the four noise levels its sampler visits, by teacher forcing
(`train/teacher_forcing.py`), with an auxiliary task that makes it read the prompt (`grounding.py`). Two things keep
long films from drifting: the clean context is spoilt with a little noise, and partly replaced by the model's own
earlier predictions of those chunks.

Shapes: B clips, C channels, T latent frames, h, w latent size.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from ..config import PRESETS, TRAIN_TIMESTEPS, ModelConfig
from ..device.precision import working_dtype
from ..engine.noise import AddressedNoise
from ..engine.rollout import rollout
from ..engine.schedule import add_noise, warp
from ..engine.shot import PromptSpan
from ..model import Rotary, WanModel
from ..toybox import HEIGHT, WIDTH, world
from ..toybox.captions import caption
from ..train.causal_start.teacher_forcing import ForcingAttention, ForcingLayout
from ..train.optimiser import MasterAdam, cosine_rate
from .clip_pool import CHUNK, CHUNKS, Clip, ClipPool
from .grounding import Grounding, WatchedWan
from .language import build_tokenizer, encode_tokens, encoder_config, to_wan_width, tokens_of

log = logging.getLogger(__name__)

STREAM = PRESETS["pocket"]
GRID = (CHUNK, HEIGHT // 16, WIDTH // 16)  # tokens of a chunk
ROLLED = 3  # first chunks of a clip that may come from the model's own film
LEVELS = [warp(step, STREAM.shift) for step in STREAM.denoising_steps]
# What a step may train, and how many clips it takes. The start of a film is the hardest part, where nothing but the
# prompt tells what to draw, so first chunks have steps of their own; short sequences carry more noisy copies.
FIRST_CHUNKS = (ForcingLayout(1, 2), 22)
WHOLE_CLIPS = (  # with their share among steps on whole clips
    (ForcingLayout(CHUNKS, 2), 2, 0.5),
    (ForcingLayout(CHUNKS, 2, switch=2), 2, 0.1),
    (ForcingLayout(CHUNKS, 4, switch=3), 2, 0.1),
    (ForcingLayout(CHUNKS, 4, switch=4), 2, 0.1),
    (ForcingLayout(CHUNKS, 4, switch=4, held=True), 2, 0.2),
)


@dataclass(frozen=True)
class DitRecipe:
    """How the transformer is trained; the defaults made the shipped weights."""

    dim: int = 256
    ffn_dim: int = 768
    layers: int = 6
    steps: int = 2000
    rate: float = 1.2e-3
    matrix_rate: float = 0.015  # of Muon, for the matrices of the blocks
    warmup: int = 50
    average: float = 0.997
    first_clips: int = 60  # in the pool before the first step
    clips_per_step: float = 0.25
    first_chunks: tuple[float, float] = (0.6, 0.2)  # share of steps on first chunks alone, at the start and at the end
    subject_weight: float = 3.0
    first_chunk_weight: float = 1.5
    grounding: float = 1.0  # weight of the auxiliary task
    context_noise: float = 0.15  # largest deviation
    guesses_from: int = 500  # step from which the model's own film serves as context
    guess_age: int = 300  # steps after which a film is that of a worse model, and no longer used
    guess_rate: float = 0.7
    roll_every: int = 16  # steps
    rolled_clips: int = 8
    text_steps: int = 600

    def model_config(self) -> ModelConfig:
        return ModelConfig(dim=self.dim, ffn_dim=self.ffn_dim, num_heads=self.dim // 128, num_layers=self.layers)


def pretrain_text(recipe: DitRecipe, rng: np.random.Generator) -> UMT5EncoderModel:
    """Stage `text`: teach every token of the encoder's output to tell the whole sentence's attributes (linear heads).

    So cross-attention finds the colour wherever it looks, and the transformer need not first learn where to look.
    """
    encoder = UMT5EncoderModel(encoder_config())
    for table in encoder.modules():
        if isinstance(table, nn.Embedding) and table.embedding_dim == encoder.config.d_model:
            nn.init.normal_(table.weight, 0.0, 1.0)
    heads = nn.ModuleDict({f: nn.Linear(encoder.config.d_model, len(t)) for f, t in world.TABLES.items()})
    tokenizer = build_tokenizer()
    adam = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=2e-3, weight_decay=0.01)
    for step in range(recipe.text_steps):
        for group in adam.param_groups:
            group["lr"] = cosine_rate(step, recipe.text_steps, 2e-3, 50)
        asked = [world.random_attributes(rng) for _ in range(32)]
        ids, mask = tokens_of(tokenizer, [caption(a, rng) for a in asked], 0.03, rng)
        every = encode_tokens(encoder, ids, mask)[mask.bool()]  # [tokens of all sentences, width]
        sentence = torch.arange(len(asked)).repeat_interleave(mask.sum(dim=1))
        loss = torch.zeros(())
        for field, table in world.TABLES.items():
            label = torch.tensor([list(table).index(getattr(look, field)) for look in asked])
            loss = loss + F.cross_entropy(heads[field](every), label[sentence])
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % 100 == 99:
            log.info("text step %d loss %.4f", step + 1, float(loss.detach()))
    return encoder


def initialise(model: WanModel, text_width: int) -> None:
    """A start for a short training: open gates, a text embedding scaled to its few live inputs, noise copied."""
    nn.init.normal_(model.text_embedding[0].weight, 0.0, text_width**-0.5)
    nn.init.normal_(model.time_embedding[0].weight, 0.0, 0.02)
    with torch.no_grad():
        for block in model.blocks:
            block.modulation[:, [2, 5]] += 0.5
    # Patches go in by an orthonormal map and come out by its transpose: the velocity starts as the noisy sample itself,
    # so the copying of noise need not be learnt.
    patch = model.patch_embedding.weight[0].numel()
    basis = nn.init.orthogonal_(torch.empty(model.dim, patch))
    scale = (model.dim / patch) ** 0.5
    with torch.no_grad():
        model.patch_embedding.weight.copy_((basis * scale).view_as(model.patch_embedding.weight))
        into = model.patch_embedding.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)  # rows in the order patches come out
        model.head.head.weight.copy_(into / scale**2)
        model.head.modulation.mul_(0.1)
    nn.init.zeros_(model.patch_embedding.bias)
    nn.init.zeros_(model.head.head.bias)


class Forcing:
    """Teacher forcing over batches of clips that share a plan."""

    def __init__(self, model: WanModel, encoder: UMT5EncoderModel, recipe: DitRecipe, seed: int):
        self.wan = WatchedWan(model, recipe.model_config())
        self.grounding = Grounding(recipe.dim, GRID).to(working_dtype())
        self.encoder, self.recipe, self.tokenizer = encoder, recipe, build_tokenizer()
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.attends: dict[ForcingLayout, ForcingAttention] = {}

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator)

    def _attend(self, plan: ForcingLayout, latents: Tensor) -> ForcingAttention:
        if plan not in self.attends:
            grid = (latents.shape[-2] // 2, latents.shape[-1] // 2)
            rotary = Rotary(self.wan.config.head_dim, grid, self.wan.device)
            self.attends[plan] = ForcingAttention(plan, rotary, CHUNK, self.wan.dtype)
        return self.attends[plan]

    def _context(self, clips: list[Clip], latents: Tensor, plan: ForcingLayout, step: int) -> Tensor:
        """The clean part of the sequence, spoilt a little: [B, C, 3 * clean chunks, h, w]."""
        clean = latents[:, :, : CHUNK * len(plan.clean)].clone()
        for row, clip in enumerate(clips):
            own = 0  # the clip's first chunks, up to this one, are taken from the model's own film
            fresh = clip.guesses is not None and step - clip.guessed_at <= self.recipe.guess_age
            if fresh and self.rng.random() < self.recipe.guess_rate:
                own = int(self.rng.integers(1, ROLLED + 1))
            for chunk in plan.clean:
                place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
                if chunk < own:
                    clean[row, :, place] = clip.guesses[:, place].float()
                elif self.rng.random() < 0.5:
                    amount = self.recipe.context_noise * self.rng.random()
                    clean[row, :, place] += amount * self._noise(clean[row, :, place])
        return clean

    def _prompts(self, clips: list[Clip], plan: ForcingLayout) -> list:
        """Cross-attention keys and values, one prompt a chunk of the sequence."""
        texts = [caption(a, self.rng) for clip in clips for a in (clip.before, clip.after)]
        ids, mask = tokens_of(self.tokenizer, texts, 0.02, self.rng)
        keys = self.wan.prompt_keys(to_wan_width(encode_tokens(self.encoder, ids, mask)))
        pick = torch.tensor([2 * row + (not old) for row in range(len(clips)) for old in plan.old_prompt()])
        return [(k[pick], v[pick]) for k, v in keys]

    def step(self, clips: list[Clip], plan: ForcingLayout, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch at this step, and the error of the clean-sample prediction by noise level."""
        latents = torch.stack([clip.latents for clip in clips]).float()
        target, weight = latents[:, :, plan.noisy.start * CHUNK : plan.chunks * CHUNK], self._weight(clips, plan)
        # Even copies are at one of the two high levels, odd ones at one of the two low levels. A first chunk alone is
        # always at the high ones: nothing but the prompt tells its colour there.
        highs = [copy % 2 == 0 or plan.chunks == 1 for copy in range(plan.copies)]
        times = [self._times(len(clips), len(plan.noisy), high) for high in highs]
        noises = [self._noise(target) for _ in times]
        noisy = [add_noise(target, n, t[:, None, :, None, None]) for n, t in zip(noises, times, strict=True)]
        clean = self._context(clips, latents, plan, step)
        timesteps = torch.cat([torch.zeros(len(clips), clean.shape[2]), *times], dim=1)
        velocity = self.wan.velocity(
            torch.cat([clean, *noisy], dim=2), timesteps, self._prompts(clips, plan), self._attend(plan, latents)
        )
        parts = velocity[:, :, clean.shape[2] :].chunk(plan.copies, dim=2)
        loss, errors = torch.zeros(()), {}
        for part, noise, noised, t in zip(parts, noises, noisy, times, strict=True):
            loss = loss + (weight * (part - (noise - target)).square()).sum() / weight.sum() / target.shape[1]
            guess = (noised - t[:, None, :, None, None] / TRAIN_TIMESTEPS * part).detach()
            self._record(guess, target, t, weight, errors)
        asked = [clip.after for clip in clips]
        told, errors["right"] = self.grounding(self.wan.watched, asked, clean.shape[2] * GRID[1] * GRID[2])
        return loss / plan.copies + self.recipe.grounding * told, errors

    def _times(self, clips: int, chunks: int, high: bool) -> Tensor:
        """A random one of the two high (low) levels for each chunk: [B, T]."""
        level = torch.randint(2, (clips, chunks), generator=self.generator) + (0 if high else 2)
        return torch.tensor(LEVELS)[level].repeat_interleave(CHUNK, dim=1)

    def _weight(self, clips: list[Clip], plan: ForcingLayout) -> Tensor:
        weight = 1 + self.recipe.subject_weight * torch.stack([clip.weight for clip in clips]).float()[:, None]
        weight[:, :, :CHUNK] *= self.recipe.first_chunk_weight
        return weight[:, :, plan.noisy.start * CHUNK : plan.chunks * CHUNK]

    def _record(self, guess: Tensor, target: Tensor, times: Tensor, weight: Tensor, errors: dict[str, float]) -> None:
        squares = (guess - target).square().mean(dim=1, keepdim=True) * weight
        per_frame = squares.sum(dim=(1, 3, 4)) / weight.sum(dim=(1, 3, 4))
        for level in times.unique().tolist():
            errors[f"{level:.0f}"] = float(per_frame[times == level].mean())

    @torch.no_grad()
    def roll(self, clips: list[Clip], step: int) -> None:
        """Let the model film the beginnings of these clips itself, and keep that as their context for later steps."""
        ids, mask = tokens_of(self.tokenizer, [caption(clip.before, self.rng) for clip in clips])
        context = to_wan_width(encode_tokens(self.encoder, ids, mask))
        noise = AddressedNoise([int(self.rng.integers(2**31)) for _ in clips])
        size = tuple(clips[0].latents.shape[-2:])
        parts = [part.latents for part in rollout(self.wan, [PromptSpan(0, context)], ROLLED, size, STREAM, noise)]
        for clip, latents in zip(clips, torch.cat(parts, dim=2), strict=True):
            clip.guesses, clip.guessed_at = latents.half(), step


def is_block_matrix(name: str) -> bool:
    return name.startswith("dit.blocks.") and name.endswith("weight") and "norm" not in name


def _draw(pool: ClipPool, rng: np.random.Generator, first_chunks: float) -> tuple[list[Clip], ForcingLayout]:
    """A batch and its plan; `first_chunks` is the probability of a step on first chunks alone."""
    if rng.random() < first_chunks:
        plan, batch = FIRST_CHUNKS
        return [pool.starts[number] for number in rng.choice(len(pool.starts), size=batch, replace=False)], plan
    rates = np.array([rate for *_, rate in WHOLE_CLIPS])
    plan, batch, _ = WHOLE_CLIPS[rng.choice(len(WHOLE_CLIPS), p=rates)]
    numbers = pool.of_switch(plan.switch)
    chosen = rng.choice(numbers, size=batch, replace=len(numbers) < batch)
    return [pool.clips[number] for number in chosen], plan


class Journal:
    """What the log says every 25 steps: mean loss, clean-sample error by level, right answers of the heads."""

    def __init__(self) -> None:
        self.started, self.losses, self.history = time.time(), [], {}

    def note(self, step: int, loss: float, errors: dict[str, float], kind: str, pool: int) -> None:
        self.losses.append(loss)
        self.keep(kind, errors)
        if step % 25 == 24:
            means = " ".join(
                f"{kind}:{level}:{np.mean(self.history[kind, level][-25:]):.3f}" for kind, level in sorted(self.history)
            )
            log.info(
                "step %d loss %.4f | %s | pool %d %.0f s",
                step + 1,
                np.mean(self.losses[-25:]),
                means,
                pool,
                time.time() - self.started,
            )

    def keep(self, kind: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.history.setdefault((kind, name), []).append(value)


def train(pool: ClipPool, folder: Path, seed: int, recipe: DitRecipe = DitRecipe()) -> Path:
    """Train text encoder and transformer; write `folder/dit.pt` (averaged float32 weights of both)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = pretrain_text(recipe, rng).to(working_dtype())
    model = WanModel(recipe.model_config())
    initialise(model, encoder.config.d_model)
    model.to(working_dtype())
    log.info(
        "transformer %.2f M, text encoder %.2f M parameters",
        *(sum(p.numel() for p in m.parameters()) / 1e6 for m in (model, encoder)),
    )
    forcing = Forcing(model, encoder, recipe, seed)
    optimiser = MasterAdam(
        {"dit": model, "text": encoder, "heads": forcing.grounding},
        weight_decay=0.01,
        average=recipe.average,
        ramp=True,
        matrix=is_block_matrix,
    )
    pool.encode_starts()
    pool.grow(recipe.first_clips)
    journal, (first, last) = Journal(), recipe.first_chunks
    for step in range(recipe.steps):
        pool.grow(recipe.first_clips + int(step * recipe.clips_per_step))
        clips, plan = _draw(pool, rng, first + (last - first) * step / recipe.steps)
        if step >= recipe.guesses_from and step % recipe.roll_every == 0:
            whole = [clip for clip in pool.clips if clip.switch != 2]  # no change of prompt in the rolled chunks
            forcing.roll([whole[number] for number in rng.choice(len(whole), recipe.rolled_clips, replace=False)], step)
        loss, errors = forcing.step(clips, plan, step)
        loss.backward()
        share = cosine_rate(step, recipe.steps, 1.0, recipe.warmup)
        optimiser.step(share * recipe.rate, share * recipe.matrix_rate)
        journal.note(step, float(loss.detach()), errors, "first" if plan.chunks == 1 else "clip", len(pool))
        if step % 100 == 99 or step + 1 == recipe.steps:
            torch.save({"weights": optimiser.averaged(), "step": step + 1}, folder / "dit.pt")
    return folder / "dit.pt"
