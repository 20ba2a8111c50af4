"""Stage `vae`: the pocket VAE, trained on pieces of toybox films; then Wan's latent statistics are folded into it.

The VAE is Wan 2.1's with a base width of 16 (3.6 M parameters). During training the latents carry noise, so that the
decoder tolerates the small errors of a diffusion model. Afterwards the latents' mean and deviation per channel are
measured, and an affine map is folded into the two 1x1x1 convolutions on either side of the latents. Then Wan 2.1's
fixed normalisation (`vae.LATENTS_MEAN`, `LATENTS_STD`) gives zero mean and unit variance, so the same files work in any
host that loads Wan 2.1.

Shapes: B clips, T frames, H, W pixels; pixels are float [B, 3, T, H, W] in [-1, 1].
"""

import logging
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
from .clip_pool import pixels_of
from .training import Draws, StageLog, take_step

Batches = tuple[tuple[int, int], ...]  # (clips, frames) of a step; one of them is drawn, all have about as many pixels
CROP_BATCHES: Batches = ((16, 1), (6, 5), (4, 9), (4, 9), (3, 13))
WHOLE_BATCHES: Batches = ((1, 17), (1, 9))
LONG_BATCHES: Batches = ((2, 37), (2, 37), (2, 25))
LONG_WARMUP = 20  # steps
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VaeSettings:
    """How the VAE is trained; the shipped weights were trained with the defaults."""

    dim: int = 16
    steps: int = 1500
    whole_steps: int = 150  # of those, the last ones, on whole pictures of more frames
    rate: float = 1.2e-3
    matrix_rate: float = 0.02  # of Muon, for the convolutions between the first and the last
    warmup: int = 30
    long_steps: int = 350  # afterwards, on long clips: see `train_long`
    long_share: float = 0.5  # of both rates there, at their peak
    noise: float = 0.3  # largest deviation of the noise on the latents
    noise_from: int = 200  # step from which it grows
    noise_ramp: int = 400  # steps until it is reached
    latent_weight: float = 5e-4
    subject_weight: float = 4.0
    crop: int = 64  # pixels
    measured_clips: int = 24  # for the statistics of the latents


def train(folder: Path, seed: int, settings: VaeSettings = VaeSettings()) -> Path:
    """Train from scratch and write `folder/vae.pt` (float32 weights under official names, statistics folded in)."""
    torch.manual_seed(seed)
    vae = WanVAE(settings.dim)
    initialise(vae)
    log.info("vae: %.2f M parameters", sum(p.numel() for p in vae.parameters()) / 1e6)
    train_short(vae, folder, seed, settings)
    return train_long(folder, seed, settings)


def train_short(vae: WanVAE, folder: Path, seed: int, settings: VaeSettings) -> None:
    """Train the first part: crops, then whole pictures; write `folder/vae_short.pt`."""
    vae, draws, training_log = channels_last(vae.to(working_dtype())), Draws(seed), StageLog()
    optimiser = optimiser_for(vae)
    for step in range(settings.steps):
        whole = step >= settings.steps - settings.whole_steps
        pixels, masks = batch(draws.rng, WHOLE_BATCHES if whole else CROP_BATCHES, 0 if whole else settings.crop)
        noise = settings.noise * min(1.0, max(0.0, (step - settings.noise_from) / settings.noise_ramp))
        loss, psnr = reconstruction_loss(vae, pixels, masks, noise, settings, draws)
        share = cosine_rate(step, settings.steps, 1.0, settings.warmup)
        take_step(optimiser, loss, share * settings.rate, share * settings.matrix_rate)
        training_log.step(step, loss, "whole" if whole else "crop", {"psnr": psnr})
    torch.save(newest_weights(optimiser), folder / "vae_short.pt")


def train_long(folder: Path, seed: int, settings: VaeSettings) -> Path:
    """Train the second part: clips longer than the VAE's memory; write `folder/vae.pt`.

    A VAE that has only seen short clips drifts after them: its causal layers depend on the shot's start for about ten
    latent frames, so later frames are unlike anything it was trained on.
    """
    vae = WanVAE.from_state_dict(torch.load(folder / "vae_short.pt", weights_only=True)).requires_grad_(True)
    vae, draws, training_log = channels_last(vae.to(working_dtype())), Draws(seed + 1), StageLog()
    optimiser = optimiser_for(vae)
    for step in range(settings.long_steps):
        pixels, masks = batch(draws.rng, LONG_BATCHES, settings.crop)
        loss, psnr = reconstruction_loss(vae, pixels, masks, settings.noise, settings, draws)
        share = cosine_rate(step, settings.long_steps, settings.long_share, LONG_WARMUP)
        take_step(optimiser, loss, share * settings.rate, share * settings.matrix_rate)
        training_log.step(step, loss, "long", {"psnr": psnr})
        if step % 50 == 49:
            torch.save(newest_weights(optimiser), folder / "vae_long.pt")
    mean, std = latent_statistics(vae, draws.rng, settings.measured_clips)
    torch.save(with_statistics(newest_weights(optimiser), mean, std), folder / "vae.pt")
    return folder / "vae.pt"


def initialise(vae: WanVAE) -> None:
    """Initialise with wider weights than PyTorch's and no biases: with its own, a VAE this thin starts very slowly."""
    for module in vae.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.normal_(module.weight, 0.0, 1.5 / module.weight[0].numel() ** 0.5)
            nn.init.zeros_(module.bias)
    for module in vae.modules():
        if isinstance(module, ResidualBlock):
            module.residual[-1].weight.data *= 0.3


def optimiser_for(vae: WanVAE) -> MasterAdam:
    """Return AdamW, with Muon for all convolutions but the first and the last."""

    def is_inner_convolution(name: str) -> bool:
        outermost = any(part in name for part in ("encoder.conv1.", "decoder.head."))
        return name.endswith("weight") and not outermost and vae.get_parameter(name.removeprefix("vae.")).dim() >= 4

    return MasterAdam({"vae": vae}, matrix=is_inner_convolution)


def newest_weights(optimiser: MasterAdam) -> dict[str, Tensor]:
    """Return a copy of the VAE's float32 weights; they are not averaged."""
    return submodule(optimiser.newest(), "vae")


def piece(rng: np.random.Generator, frames: int, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a random piece of a random film: frames [T, h, w, 3], masks [T, h, w]. crop 0 is the whole picture."""
    first = int(rng.integers(0, 60))
    script = [(0, world.random_attributes(rng))]
    if rng.random() < 0.5:
        script.append((int(rng.integers(1, first + frames + 1)), world.changed_attributes(script[0][1], rng)))
    states = world.simulate(script, first + frames, int(rng.integers(2**31)))[first:]
    region = (0, 0, HEIGHT, WIDTH)
    if crop:
        middle = states[len(states) // 2]
        spread = rng.normal(0, 14 if rng.random() < 0.85 else 60, 2)
        top = int(np.clip(round((middle.y + spread[0] - crop / 2) / 8) * 8, 0, HEIGHT - crop))
        left = int(np.clip(round((middle.x + spread[1] - crop / 2) / 8) * 8, 0, WIDTH - crop))
        region = (top, left, crop, crop)
    return world.render(script, states, first, region)


def batch(rng: np.random.Generator, batches: Batches, crop: int) -> tuple[Tensor, Tensor]:
    """Draw pixels [B, 3, T, H, W] and subject masks [B, 1, T, H, W] of one of the `batches`."""
    clips, frames = batches[rng.integers(len(batches))]
    pieces = [piece(rng, frames, crop) for _ in range(clips)]
    masks = torch.from_numpy(np.stack([mask for _, mask in pieces]))[:, None]
    return pixels_of(np.stack([pictures for pictures, _ in pieces])), masks


def reconstruction_loss(
    vae: WanVAE, pixels: Tensor, masks: Tensor, noise: float, settings: VaeSettings, draws: Draws
) -> tuple[Tensor, float]:
    """Return the loss with latents that carry up to `noise`, and the PSNR in dB."""
    half = pixels.to(working_dtype()).contiguous(memory_format=torch.channels_last_3d)
    latents = _encode_piece(vae, half, {}).chunk(2, dim=1)[0]
    amount = noise * draws.uniform(len(pixels), 1, 1, 1, 1)
    noisy = latents + (amount * draws.noise(latents)).to(latents.dtype)
    error = _decode_piece(vae, noisy, {}).float() - pixels
    weight = 1 + settings.subject_weight * F.max_pool3d(masks, (1, 5, 5), 1, (0, 2, 2))
    pixel = (weight * (error.abs() + 2 * error.square())).sum() / weight.sum() / 3
    loss = pixel + settings.latent_weight * latents.float().square().mean()
    return loss, decibels(float(error.detach().square().mean()) / 4)


def decibels(square_error: float) -> float:
    """Return the PSNR of a mean square error of values in [0, 1]."""
    return -10 * float(np.log10(square_error))


@torch.no_grad()
def latent_statistics(vae: WanVAE, rng: np.random.Generator, clips: int) -> tuple[Tensor, Tensor]:
    """Measure the latents' mean and deviation per channel on random clips."""
    values = []
    for _ in range(clips):
        pixels = pixels_of(piece(rng, 45, 0)[0][None]).to(working_dtype())
        values.append(_encode_piece(vae, pixels, {}).float().chunk(2, dim=1)[0])
    values = torch.cat(values)
    mean, std = values.mean(dim=(0, 2, 3, 4)), values.std(dim=(0, 2, 3, 4)).clamp_min(1e-3)
    log.info("latent mean %s", mean.tolist())
    log.info("latent std %s", std.tolist())
    return mean, std


def with_statistics(weights: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Fold the latents' statistics into `conv1` and `conv2`, so that Wan's normalisation fits. Returns the weights."""
    weights = {name: value.clone() for name, value in weights.items()}
    wan_mean, wan_std = torch.tensor(LATENTS_MEAN), torch.tensor(LATENTS_STD)
    scale = wan_std / std  # new = (old - mean) * scale + wan_mean
    z = len(mean)
    weights["conv1.weight"][:z] *= scale.view(-1, 1, 1, 1, 1)
    weights["conv1.bias"][:z] = (weights["conv1.bias"][:z] - mean) * scale + wan_mean
    # old = (new - wan_mean) / scale + mean, before conv2
    weights["conv2.bias"] += weights["conv2.weight"][:, :, 0, 0, 0] @ (mean - wan_mean / scale)
    weights["conv2.weight"] /= scale.view(1, -1, 1, 1, 1)
    return weights


@torch.no_grad()
def measure(vae: WanVAE, seed: int, clips: int = 12, noise: float = 0.0) -> dict[str, float]:
    """Measure PSNR (dB) over whole pictures and over subjects alone, and the latents' statistics, on unseen clips."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    whole, subject, latents = [], [], []
    for _ in range(clips):
        frames, masks = piece(rng, 69, 0)
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
        "psnr": decibels(np.mean(whole)),
        "psnr_subject": decibels(np.mean(subject)),
        "latent_mean": float(values.mean()),
        "latent_std": float(values.std()),
    }
