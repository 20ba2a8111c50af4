"""Stage `export`: the trained weights as the files the package ships (bfloat16 safetensors, tokenizer.json)."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..checkpoints.built_in import DIT_FILE, TEXT_ENCODER_FILE, TOKENIZER_FILE, VAE_FILE
from .language import TEXT_LENGTH, build_tokenizer, config_json

LIMIT_BYTES = 24_000_000


def _save(weights: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    half = {name: value.to(torch.bfloat16).contiguous().clone() for name, value in weights.items()}
    part = path.with_name(path.name + ".part")
    save_file(half, str(part), metadata={"format": "pt", **metadata})
    os.replace(part, path)


def save_transformer(weights: dict[str, Tensor], path: Path, note: str) -> None:
    """Write one transformer as a file that `render --model` and a distillation load."""
    _save(weights, path, {"made_by": note})


def export(vae: dict[str, Tensor], dit: dict[str, Tensor], text: dict[str, Tensor], folder: Path, note: str) -> int:
    """Write the four files to `folder`; return their size in bytes.

    `note` describes in each file's metadata how it was created. ValueError if the files are larger than 24 MB together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _save(vae, folder / VAE_FILE, {"made_by": note})
    save_transformer(dit, folder / DIT_FILE, note)
    _save(text, folder / TEXT_ENCODER_FILE, {"made_by": note, "config": config_json(), "text_len": str(TEXT_LENGTH)})
    build_tokenizer().save(str(folder / TOKENIZER_FILE))
    size = sum((folder / name).stat().st_size for name in (VAE_FILE, DIT_FILE, TEXT_ENCODER_FILE, TOKENIZER_FILE))
    if size > LIMIT_BYTES:
        raise ValueError(f"the pocket model's files have {size} bytes together; at most {LIMIT_BYTES} are allowed")
    return size
