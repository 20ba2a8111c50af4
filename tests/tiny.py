"""A tiny random model in the pocket model's formats, for what looks at no pictures: it costs next to nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from longlive_core.checkpoints.built_in import DIT_FILE, VAE_FILE
from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.vae import WanVAE

# Of the pocket model's width, so that its text encoder fits and is taken without being named.
CONFIG = ModelConfig(dim=256, ffn_dim=64, num_heads=2, num_layers=2)
VAE_WIDTH = 4


def write_weights(folder: Path, dit: str = DIT_FILE, vae: str = VAE_FILE) -> Path:
    """Write a transformer of two blocks and a VAE of four channels; returns the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights, codec = WanModel(CONFIG).state_dict(), WanVAE(dim=VAE_WIDTH).state_dict()
        for name, tensor in weights.items():  # so that a film depends visibly on everything it is given
            if tensor.ndim > 1 and "modulation" not in name:
                tensor.normal_(std=1.2 / tensor[0].numel() ** 0.5)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / dit)
    save_file(codec, folder / vae)
    return folder
