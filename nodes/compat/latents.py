"""Convert ComfyUI's pictures and LATENTs to the latents that the model computes with, and back."""

from __future__ import annotations

import comfy.latent_formats
import comfy.model_management as management
import comfy.utils
from torch import Tensor

from ...longlive_core.takes import clip_latents

LATENT_CHANNELS, PIXELS = 16, 8  # channels of Wan's latents; pixels per latent in width and height


def encode_clip(vae, image: Tensor, size: tuple[int, int], chunk: int) -> Tensor:
    """Encode pictures [T, H, W, 3], scaled and centre-cropped to (width, height) -> normalised latents, whole
    chunks."""
    sized = comfy.utils.common_upscale(image.movedim(-1, 1), *size, "bicubic", "center").movedim(1, -1)
    reserve = vae.memory_used_encode((1, 3, 1, size[1], size[0]), vae.vae_dtype)
    management.load_models_gpu([vae.patcher], memory_required=reserve)
    return clip_latents(vae.first_stage_model, sized.float().clamp(0, 1), chunk, vae.device, vae.vae_dtype)


def normalised(samples: Tensor) -> Tensor:
    """Normalise a LATENT's samples [B, 16, T, h, w] -> the latents that the model sees."""
    return comfy.latent_formats.Wan21().process_in(samples.float())


def latent_size(latent: dict) -> tuple[int, int]:
    """Return (width, height) in pixels of a film that begins with a LATENT."""
    height, width = latent["samples"].shape[-2:]
    return width * PIXELS, height * PIXELS


def as_latent(latents: Tensor) -> dict:
    """Return a LATENT from the latents that the model sees."""
    return {"samples": comfy.latent_formats.Wan21().process_out(latents)}
