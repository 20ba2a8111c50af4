"""The shipped files of the built-in pocket model: their paths, and which user files work with them."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

DIT_FILE = "pocket_dit.safetensors"
VAE_FILE = "pocket_vae.safetensors"
TEXT_ENCODER_FILE = "pocket_text_encoder.safetensors"
TOKENIZER_FILE = "tokenizer.json"


def weights_folder() -> Path:
    """Return the folder of the shipped weights."""
    return Path(__file__).parents[1] / "pocket" / "weights"


def is_pocket_file(path: str | os.PathLike | None) -> bool:
    """Return whether a safetensors file holds a transformer of the pocket model's width, such as a training checkpoint.

    Such a file works with the built-in VAE and text encoder. Reads only the header; False if the file cannot be read.
    """
    shape = None if path is None else _patch_shape(path)
    return shape is not None and shape == _patch_shape(weights_folder() / DIT_FILE)


def _patch_shape(path: str | os.PathLike) -> list[int] | None:
    """Return the shape of the patch embedding: width, channels, patch."""
    try:
        with safe_open(path, framework="numpy") as file:
            found = [name for name in file.keys() if name.endswith("patch_embedding.weight")]  # noqa: SIM118
            return file.get_slice(found[0]).get_shape() if found else None
    except (OSError, SafetensorError):
        return None
