"""The files of a tiny random model in ComfyUI's model folders: its films show noise and render in almost no time."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.harness.graphs import TINY

from .. import tiny

TINY_DIT, TINY_VAE = TINY["model"], TINY["vae"]


def place_tiny(models: Path) -> None:
    """Write the files of `tests.tiny` to the folders of ComfyUI's loaders."""
    tiny.write_weights(models / "diffusion_models", TINY_DIT, TINY_VAE)
    (models / "vae").mkdir(parents=True, exist_ok=True)
    os.replace(models / "diffusion_models" / TINY_VAE, models / "vae" / TINY_VAE)
