"""Stages `text` and `dit`: the text encoder and the diffusion transformer, trained from scratch on a pool of clips.

The transformer learns clean-sample prediction at exactly the four noise levels its sampler visits, by teacher forcing
(`forcing.py`). Two things keep long films from drifting: the clean context is spoilt with a little noise, and partly
replaced by the model's own earlier predictions of those chunks.

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
from ..model import CausalWan, Rotary, WanModel
from ..noise import AddressedNoise
from ..rollout import PromptSpan, rollout
from ..schedule import add_noise, warp
from . import world
from .captions import caption
from .clips import CHUNK, CHUNKS, Clip, ClipPool
from .forcing import ForcingAttention, Plan
from .language import build_tokenizer, encode_tokens, encoder_config, to_wan_width, tokens_of
from .optimiser import MasterAdam, cosine_rate, submodule

log = logging.getLogger(__name__)

STREAM = PRESETS["pocket"]
ROLLED = 3  # first chunks of a clip that may come from the model's own film
LEVELS = [warp(step, STREAM.shift) for step in STREAM.denoising_steps]
# What a step may train, how many clips it takes and how often it is drawn. The start of a film is the hardest part, so
# first chunks have steps of their own; short sequences carry more noisy copies.
PLANS = (
    (Plan(1, 4), 7, 0.35),
    (Plan(CHUNKS, 2), 2, 0.42),
    (Plan(CHUNKS, 2, switch=2), 2, 0.04),
    (Plan(CHUNKS, 4, switch=3), 2, 0.04),
    (Plan(CHUNKS, 4, switch=4), 2, 0.05),
    (Plan(CHUNKS, 4, switch=4, held=True), 2, 0.10),
)


@dataclass(frozen=True)
class DitRecipe:
    """How the transformer is trained.

    The defaults are those of the last of the five runs behind the shipped weights (`docs/pocket.md`); from scratch,
    give it some thousands of steps.
    """

    dim: int = 256
    ffn_dim: int = 768
    layers: int = 6
    steps: int = 390
    rate: float = 1.2e-3
    matrix_rate: float = 0.012  # of Muon, for the matrices of the blocks
    warmup: int = 30
    average: float = 0.997
    first_clips: int = 40  # in the pool before the first step
    clips: int = 1200  # in the pool in the end
    clips_per_step: float = 0.3
    starts: int = 240  # first chunks
    subject_weight: float = 8.0
    first_chunk_weight: float = 1.5
    context_noise: float = 0.15  # largest deviation
    guesses_from: int = 0  # step from which the model's own film serves as context
    guess_rate: float = 0.8
    roll_every: int = 12  # steps
    rolled_clips: int = 10
    text_steps: int = 500

    def model_config(self) -> ModelConfig:
        return ModelConfig(dim=self.dim, ffn_dim=self.ffn_dim, num_heads=self.dim // 128, num_layers=self.layers)


def pretrain_text(recipe: DitRecipe, rng: np.random.Generator) -> UMT5EncoderModel:
    """Stage `text`: teach the encoder to tell the attributes of a sentence apart (mean of its output, linear heads)."""
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
        pooled = encode_tokens(encoder, ids, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        loss = sum(F.cross_entropy(heads[f](pooled), torch.tensor([list(t).index(getattr(a, f)) for a in asked]))
                   for f, t in world.TABLES.items())  # fmt: skip
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
        self.wan = CausalWan(model, recipe.model_config())
        self.encoder, self.recipe, self.tokenizer = encoder, recipe, build_tokenizer()
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.attends: dict[Plan, ForcingAttention] = {}

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator)

    def _attend(self, plan: Plan, latents: Tensor) -> ForcingAttention:
        if plan not in self.attends:
            grid = (latents.shape[-2] // 2, latents.shape[-1] // 2)
            rotary = Rotary(self.wan.config.head_dim, grid, self.wan.device)
            self.attends[plan] = ForcingAttention(plan, rotary, CHUNK, self.wan.dtype)
        return self.attends[plan]

    def _context(self, clips: list[Clip], latents: Tensor, plan: Plan, use_guesses: bool) -> Tensor:
        """The clean part of the sequence, spoilt a little: [B, C, 3 * clean chunks, h, w]."""
        clean = latents[:, :, :CHUNK * len(plan.clean)].clone()
        for row, clip in enumerate(clips):
            own = 0  # the clip's first chunks, up to this one, are taken from the model's own film
            if use_guesses and clip.guesses is not None and self.rng.random() < self.recipe.guess_rate:
                own = int(self.rng.integers(1, ROLLED + 1))
            for chunk in plan.clean:
                place = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
                if chunk < own:
                    clean[row, :, place] = clip.guesses[:, place].float()
                elif self.rng.random() < 0.5:
                    amount = self.recipe.context_noise * self.rng.random()
                    clean[row, :, place] += amount * self._noise(clean[row, :, place])
        return clean

    def _prompts(self, clips: list[Clip], plan: Plan) -> list:
        """Cross-attention keys and values, one prompt a chunk of the sequence."""
        texts = [caption(a, self.rng) for clip in clips for a in (clip.before, clip.after)]
        ids, mask = tokens_of(self.tokenizer, texts, 0.02, self.rng)
        keys = self.wan.prompt_keys(to_wan_width(encode_tokens(self.encoder, ids, mask)))
        pick = torch.tensor([2 * row + (not old) for row in range(len(clips)) for old in plan.old_prompt()])
        return [(k[pick], v[pick]) for k, v in keys]

    def step(self, clips: list[Clip], plan: Plan, use_guesses: bool) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, and the error of the clean-sample prediction by noise level."""
        latents = torch.stack([clip.latents for clip in clips]).float()
        target, weight = latents[:, :, plan.switch * CHUNK:plan.chunks * CHUNK], self._weight(clips, plan)
        # Even copies are at one of the two high levels, odd ones at one of the two low levels. A first chunk alone is
        # mostly at the high ones: nothing but the prompt tells its colour there.
        highs = [copy % 2 == 0 or (plan.chunks == 1 and copy < 3) for copy in range(plan.copies)]
        times = [self._times(len(clips), len(plan.noisy), high) for high in highs]
        noises = [self._noise(target) for _ in times]
        noisy = [add_noise(target, n, t[:, None, :, None, None]) for n, t in zip(noises, times, strict=True)]
        clean = self._context(clips, latents, plan, use_guesses)
        timesteps = torch.cat([torch.zeros(len(clips), clean.shape[2]), *times], dim=1)
        velocity = self.wan.velocity(torch.cat([clean, *noisy], dim=2), timesteps, self._prompts(clips, plan),
                                     self._attend(plan, latents))  # fmt: skip
        parts = velocity[:, :, clean.shape[2]:].chunk(plan.copies, dim=2)
        loss, errors = torch.zeros(()), {}
        for part, noise, noised, t in zip(parts, noises, noisy, times, strict=True):
            loss = loss + (weight * (part - (noise - target)).square()).sum() / weight.sum() / target.shape[1]
            guess = (noised - t[:, None, :, None, None] / TRAIN_TIMESTEPS * part).detach()
            self._record(guess, target, t, weight, errors)
        return loss / plan.copies, errors

    def _times(self, clips: int, chunks: int, high: bool) -> Tensor:
        """A random one of the two high (low) levels for each chunk: [B, T]."""
        level = torch.randint(2, (clips, chunks), generator=self.generator) + (0 if high else 2)
        return torch.tensor(LEVELS)[level].repeat_interleave(CHUNK, dim=1)

    def _weight(self, clips: list[Clip], plan: Plan) -> Tensor:
        weight = 1 + self.recipe.subject_weight * torch.stack([clip.weight for clip in clips]).float()[:, None]
        weight[:, :, :CHUNK] *= self.recipe.first_chunk_weight
        return weight[:, :, plan.switch * CHUNK:plan.chunks * CHUNK]

    def _record(self, guess: Tensor, target: Tensor, times: Tensor, weight: Tensor, errors: dict[str, float]) -> None:
        squares = (guess - target).square().mean(dim=1, keepdim=True) * weight
        per_frame = squares.sum(dim=(1, 3, 4)) / weight.sum(dim=(1, 3, 4))
        for level in times.unique().tolist():
            errors[f"{level:.0f}"] = float(per_frame[times == level].mean())

    @torch.no_grad()
    def roll(self, clips: list[Clip]) -> None:
        """Let the model film the beginnings of these clips itself, and keep that as their context for later steps."""
        ids, mask = tokens_of(self.tokenizer, [caption(clip.before, self.rng) for clip in clips])
        context = to_wan_width(encode_tokens(self.encoder, ids, mask))
        noise = AddressedNoise([int(self.rng.integers(2**31)) for _ in clips])
        size = tuple(clips[0].latents.shape[-2:])
        parts = [part.latents for part in rollout(self.wan, [PromptSpan(0, context)], ROLLED, size, STREAM, noise)]
        for clip, latents in zip(clips, torch.cat(parts, dim=2), strict=True):
            clip.guesses = latents.half()


def _is_block_matrix(name: str) -> bool:
    return name.startswith("dit.blocks.") and name.endswith("weight") and "norm" not in name


def _draw(pool: ClipPool, rng: np.random.Generator) -> tuple[list[Clip], Plan]:
    rates = np.array([rate for *_, rate in PLANS])
    plan, batch, _ = PLANS[rng.choice(len(PLANS), p=rates / rates.sum())]
    if plan.chunks == 1:
        return [pool.starts[number] for number in rng.choice(len(pool.starts), size=batch, replace=False)], plan
    numbers = pool.of_switch(plan.switch)
    chosen = rng.choice(numbers, size=batch, replace=len(numbers) < batch)
    return [pool.clips[number] for number in chosen], plan


def _start_from(start: Path, model: WanModel, encoder: UMT5EncoderModel) -> None:
    """Take over the weights of an earlier run, for example one on the latents of another VAE."""
    weights = torch.load(start, weights_only=True)["weights"]
    model.load_state_dict(submodule(weights, "dit"))
    encoder.load_state_dict(submodule(weights, "text"), strict=False)  # its embedding has a second name


def train(pool: ClipPool, folder: Path, seed: int, recipe: DitRecipe = DitRecipe(), start: Path | None = None) -> Path:
    """Train text encoder and transformer; write `folder/dit.pt` (averaged float32 weights of both).

    With `start`, the checkpoint of an earlier run, the weights begin there (and the optimiser afresh).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = pretrain_text(recipe, rng) if start is None else UMT5EncoderModel(encoder_config())
    model = WanModel(recipe.model_config())
    initialise(model, encoder.config.d_model)
    if start is not None:
        _start_from(start, model, encoder)
    encoder.to(torch.bfloat16)
    model.to(torch.bfloat16)
    log.info("transformer %.2f M, text encoder %.2f M parameters",
             *(sum(p.numel() for p in m.parameters()) / 1e6 for m in (model, encoder)))
    optimiser = MasterAdam({"dit": model, "text": encoder}, weight_decay=0.01, average=recipe.average,
                           matrix=_is_block_matrix)  # fmt: skip
    forcing = Forcing(model, encoder, recipe, seed)
    pool.encode_starts(recipe.starts, rng)
    started, losses, history = time.time(), [], {}
    for step in range(recipe.steps):
        pool.grow(min(recipe.clips, recipe.first_clips + int(step * recipe.clips_per_step)))
        clips, plan = _draw(pool, rng)
        if step % recipe.roll_every == 0:
            whole = [clip for clip in pool.clips if clip.switch != 2]  # no change of prompt in the rolled chunks
            forcing.roll([whole[number] for number in rng.choice(len(whole), recipe.rolled_clips, replace=False)])
        loss, errors = forcing.step(clips, plan, step >= recipe.guesses_from)
        loss.backward()
        share = cosine_rate(step, recipe.steps, 1.0, recipe.warmup)
        norm = optimiser.step(share * recipe.rate, share * recipe.matrix_rate)
        losses.append(float(loss.detach()))
        for level, error in errors.items():
            history.setdefault(level, []).append(error)
        if step % 25 == 24:
            levels = " ".join(f"{level}:{np.mean(history[level][-50:]):.3f}" for level in sorted(history, key=float))
            log.info("dit step %d loss %.4f clean error by level %s grad %.2f pool %d %.0f s", step + 1,
                     np.mean(losses[-25:]), levels, norm, len(pool), time.time() - started)
        if step % 100 == 99 or step + 1 == recipe.steps:
            torch.save({"weights": optimiser.averaged(), "step": step + 1}, folder / "dit.pt")
    return folder / "dit.pt"
