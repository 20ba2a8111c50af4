"""Files in ComfyUI's model folders: the pocket model and a LoRA for it, under the names in the shipped workflows."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints.built_in import DIT_FILE, TEXT_ENCODER_FILE, VAE_FILE, weights_folder
from scripts.workflows import POCKET

LORA = POCKET.lora


def place_models(models: Path) -> None:
    """Copy the pocket model's files to the folders of ComfyUI's loaders, and write the LoRA."""
    for folder, name in (("diffusion_models", DIT_FILE), ("vae", VAE_FILE), ("text_encoders", TEXT_ENCODER_FILE)):
        (models / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(weights_folder() / name, models / folder / name)
    (models / "loras").mkdir(exist_ok=True)
    save_file(_lora(), models / "loras" / LORA)


def _lora() -> dict[str, torch.Tensor]:
    """Return a random LoRA on the first block's attention, with key names that ComfyUI's LoRA loaders know."""
    generator = torch.Generator().manual_seed(0)
    weights = load_file(weights_folder() / DIT_FILE)
    tensors = {}
    for layer in ("q", "v", "o"):
        name = f"blocks.0.self_attn.{layer}"
        width = weights[f"{name}.weight"].shape[0]
        for part, shape in (("A", (4, width)), ("B", (width, 4))):
            tensors[f"diffusion_model.{name}.lora_{part}.weight"] = torch.randn(shape, generator=generator) * 0.2
    return tensors
