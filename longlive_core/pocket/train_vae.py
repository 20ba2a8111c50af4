"""Stage `vae`: train the pocket VAE on crops of the toybox, then fold Wan's latent statistics into it.

The VAE is Wan 2.1's with a base width of 16 (3.6 M parameters). During training the latents carry noise, so that the
decoder forgives the small errors of a diffusion model. Afterwards the latents' mean and deviation per channel are
measured, and an affine map is folded into the two 1x1x1 convolutions on either side of the latents, so that Wan 2.1's
fixed normalisation (`vae.LATENTS_MEAN`, `LATENTS_STD`) gives zero mean and unit variance. So the same files work in any
host that loads Wan 2.1.

Shapes: B clips, T frames, H, W pixels; pixels are float [B, 3, T, H, W] in [-1, 1].
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device.precision import working_dtype
from ..toybox import HEIGHT, WIDTH, world
from ..train.optimiser import MasterAdam, cosine_rate, submodule
from ..vae import LATENTS_MEAN, LATENTS_STD, WanVAE, channels_last, decode, encode
from ..vae.module import ResidualBlock
from ..vae.streaming import _decode_piece, _encode_piece

log = logging.getLogger(__name__)

# (clips, frames) of a step, all about as many pixels
CROP_BATCHES = ((16, 1), (6, 5), (4, 9), (4, 9), (3, 13))
WIDE_BATCHES = ((1, 17), (1, 9))
LONG_BATCHES = ((2, 37), (2, 37), (2, 25))


@dataclass(frozen=True)
class VaeRecipe:
    """How the VAE is trained; the defaults made the shipped weights."""

    dim: int = 16
    steps: int = 1500
    wide_steps: int = 150  # of those, the last ones, on whole pictures of more frames
    rate: float = 1.2e-3
    matrix_rate: float = 0.02  # of Muon, for the convolutions between the first and the last
    long_steps: int = 350  # afterwards, on long clips: see `train_long`
    long_share: float = 0.5  # of both rates, at their highest
    warmup: int = 30
    noise: float = 0.3  # largest deviation of the noise on the latents, reached by and by
    noise_from: int = 200
    noise_ramp: int = 400  # steps
    latent_weight: float = 5e-4
    subject_weight: float = 4.0
    crop: int = 64


def _clip(rng: np.random.Generator, frames: int, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """A random piece of a random film: frames [T, h, w, 3], masks [T, h, w]. crop 0 is the whole picture."""
    first = int(rng.integers(0, 60))
    script = [(0, world.random_attributes(rng))]
    if rng.random() < 0.5:
        script.append((int(rng.integers(1, first + frames + 1)), world.changed_attributes(script[0][1], rng)))
    states = world.simulate(script, first + frames, int(rng.integers(2**31)))[first:]
    window = (0, 0, HEIGHT, WIDTH)
    if crop:
        middle = states[len(states) // 2]
        spread = rng.normal(0, 14 if rng.random() < 0.85 else 60, 2)
        top = int(np.clip(round((middle.y + spread[0] - crop / 2) / 8) * 8, 0, HEIGHT - crop))
        left = int(np.clip(round((middle.x + spread[1] - crop / 2) / 8) * 8, 0, WIDTH - crop))
        window = (top, left, crop, crop)
    return world.render(script, states, first, window)


def pixels_of(frames: np.ndarray) -> Tensor:
    """uint8 frames [B, T, H, W, 3] -> float pixels [B, 3, T, H, W] in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def _batch(rng: np.random.Generator, batches: tuple[tuple[int, int], ...], crop: int) -> tuple[Tensor, Tensor]:
    """Pixels [B, 3, T, H, W] and subject masks [B, 1, T, H, W] of one of the `batches` (clips, frames)."""
    clips, frames = batches[rng.integers(len(batches))]
    parts = [_clip(rng, frames, crop) for _ in range(clips)]
    masks = torch.from_numpy(np.stack([m for _, m in parts]))[:, None]
    return pixels_of(np.stack([f for f, _ in parts])), masks


def _loss(vae: WanVAE, pixels: Tensor, masks: Tensor, recipe: VaeRecipe, noise: float, generator: torch.Generator):
    half = pixels.to(working_dtype()).contiguous(memory_format=torch.channels_last_3d)
    latents = _encode_piece(vae, half, {}).chunk(2, dim=1)[0]
    amount = noise * torch.rand(len(pixels), 1, 1, 1, 1, generator=generator)
    spoilt = latents + (amount * torch.randn(latents.shape, generator=generator)).to(latents.dtype)
    decoded = _decode_piece(vae, spoilt, {}).float()
    error = decoded - pixels
    near = F.max_pool3d(masks, (1, 5, 5), 1, (0, 2, 2))
    weight = 1 + recipe.subject_weight * near
    pixel = (weight * (error.abs() + 2 * error.square())).sum() / weight.sum() / 3
    return pixel + recipe.latent_weight * latents.float().square().mean(), error


def _initialise(vae: WanVAE) -> None:
    """Wider weights than PyTorch's and no biases: with its own, a VAE this thin takes hundreds of steps to wake up."""
    for module in vae.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.normal_(module.weight, 0.0, 1.5 / module.weight[0].numel() ** 0.5)
            nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.residual[-1].weight.data *= 0.3


class _Trainer:
    """The VAE with its optimiser, random numbers and log."""

    def __init__(self, vae: WanVAE, recipe: VaeRecipe, seed: int):
        torch.manual_seed(seed)
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.vae, self.recipe = vae.to(working_dtype()), recipe
        channels_last(vae)
        self.optimiser = MasterAdam({"vae": vae}, matrix=self._is_inner_convolution)
        self.started, self.squares, self.steps = time.time(), [], 0

    def _is_inner_convolution(self, name: str) -> bool:
        outermost = ("encoder.conv1.", "decoder.head.")
        return (
            name.endswith("weight")
            and not any(part in name for part in outermost)
            and (self.vae.get_parameter(name.removeprefix("vae.")).dim() >= 4)
        )

    def step(self, batches: tuple[tuple[int, int], ...], crop: int, noise: float, share: float) -> None:
        """One step on one of the `batches`, at this share of the recipe's rates."""
        pixels, masks = _batch(self.rng, batches, crop)
        loss, error = _loss(self.vae, pixels, masks, self.recipe, noise, self.generator)
        loss.backward()
        norm = self.optimiser.step(share * self.recipe.rate, share * self.recipe.matrix_rate)
        self.steps += 1
        self.squares.append(float(error.detach().square().mean()) / 4)
        if self.steps % 50 == 0:
            psnr = -10 * np.log10(np.mean(self.squares[-50:]))
            log.info(
                "vae step %d loss %.4f psnr %.2f grad %.3f %.0f s",
                self.steps,
                float(loss.detach()),
                psnr,
                norm,
                time.time() - self.started,
            )

    def weights(self) -> dict[str, Tensor]:
        return submodule(self.optimiser.newest(), "vae")


def train(folder: Path, seed: int, recipe: VaeRecipe = VaeRecipe()) -> Path:
    """Train from scratch and write `folder/vae.pt` (float32 weights under official names, statistics folded in)."""
    torch.manual_seed(seed)
    vae = WanVAE(recipe.dim)
    _initialise(vae)
    log.info("vae: %.2f M parameters", sum(p.numel() for p in vae.parameters()) / 1e6)
    trainer = _Trainer(vae, recipe, seed)
    for step in range(recipe.steps):
        wide = step >= recipe.steps - recipe.wide_steps
        noise = recipe.noise * min(1.0, max(0.0, (step - recipe.noise_from) / recipe.noise_ramp))
        trainer.step(
            WIDE_BATCHES if wide else CROP_BATCHES,
            0 if wide else recipe.crop,
            noise,
            cosine_rate(step, recipe.steps, 1.0, recipe.warmup),
        )
    torch.save(trainer.weights(), folder / "vae_short.pt")
    return train_long(folder, seed, recipe)


def train_long(folder: Path, seed: int, recipe: VaeRecipe = VaeRecipe()) -> Path:
    """The second part of the training: clips longer than the VAE's memory.

    A VAE that has only seen short clips drifts after them: its causal layers still feel the shot's start for about ten
    latent frames, so what comes later is unlike anything it was trained on.
    """
    vae = WanVAE.from_state_dict(torch.load(folder / "vae_short.pt", weights_only=True))
    trainer = _Trainer(vae.requires_grad_(True), recipe, seed + 1)
    for step in range(recipe.long_steps):
        share = cosine_rate(step, recipe.long_steps, recipe.long_share, warmup=20)
        trainer.step(LONG_BATCHES, recipe.crop, recipe.noise, share)
        if step % 50 == 49:
            torch.save(trainer.weights(), folder / "vae_long.pt")
    fold_statistics(trainer)
    path = folder / "vae.pt"
    torch.save(trainer.weights(), path)
    return path


@torch.no_grad()
def fold_statistics(trainer: _Trainer, clips: int = 24) -> None:
    """Measure the latents' statistics on random clips and fold them into `conv1` and `conv2` of the master weights."""
    weights, optimiser = trainer.weights(), trainer.optimiser
    values = []
    for _ in range(clips):
        pixels = pixels_of(_clip(trainer.rng, 45, 0)[0][None]).to(working_dtype())
        values.append(_encode_piece(trainer.vae, pixels, {}).float().chunk(2, dim=1)[0])
    values = torch.cat(values)
    mean, std = values.mean(dim=(0, 2, 3, 4)), values.std(dim=(0, 2, 3, 4)).clamp_min(1e-3)
    log.info("latent mean %s", mean.tolist())
    log.info("latent std %s", std.tolist())
    wan_mean, wan_std = torch.tensor(LATENTS_MEAN), torch.tensor(LATENTS_STD)
    scale = wan_std / std  # new = (old - mean) * scale + wan_mean
    z = len(mean)
    weights["conv1.weight"][:z] *= scale.view(-1, 1, 1, 1, 1)
    weights["conv1.bias"][:z] = (weights["conv1.bias"][:z] - mean) * scale + wan_mean
    # old = (new - wan_mean) / scale + mean, before conv2
    weights["conv2.bias"] += weights["conv2.weight"][:, :, 0, 0, 0] @ (mean - wan_mean / scale)
    weights["conv2.weight"] /= scale.view(1, -1, 1, 1, 1)
    torch._foreach_copy_(optimiser.params, optimiser.master)


@torch.no_grad()
def measure(vae: WanVAE, seed: int, clips: int = 12, noise: float = 0.0) -> dict[str, float]:
    """PSNR (dB) over whole pictures and over subjects alone, and the latents' statistics, on unseen clips."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    whole, subject, latents = [], [], []
    for _ in range(clips):
        frames, masks = _clip(rng, 69, 0)
        pixels = pixels_of(frames[None])
        coded = encode(vae, pixels.to(next(vae.parameters()).dtype), group=None)
        latents.append(coded.float())
        coded = coded + (noise * torch.randn(coded.shape, generator=generator)).to(coded.dtype)
        error = ((decode(vae, coded).float().clamp(-1, 1) - pixels) / 2).square()
        mask = torch.from_numpy(masks)[None, None]
        whole.append(float(error.mean()))
        subject.append(float((error * mask).sum() / mask.sum() / 3))
    values = torch.cat(latents)
    return {
        "psnr": -10 * float(np.log10(np.mean(whole))),
        "psnr_subject": -10 * float(np.log10(np.mean(subject))),
        "latent_mean": float(values.mean()),
        "latent_std": float(values.std()),
    }
