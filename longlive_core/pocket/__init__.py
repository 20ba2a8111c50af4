"""The pocket model: a LongLive of a few million parameters, trained on a procedural world, shipped with the package.

`weights_folder()` is where its files lie; `docs/pocket.md` says how they were made.
"""

from pathlib import Path

DIT_FILE = "pocket_dit.safetensors"
VAE_FILE = "pocket_vae.safetensors"
TEXT_ENCODER_FILE = "pocket_text_encoder.safetensors"
TOKENIZER_FILE = "tokenizer.json"


def weights_folder() -> Path:
    """The folder of the shipped weights."""
    return Path(__file__).parent / "weights"
