"""Tiny models whose every bit is the same on every machine, in files as people download them.

Drawn from PCG64's raw numbers and by exact arithmetic alone, since names follow from the bits: PyTorch's own random
numbers differ in their last bits between kinds of CPU.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.vae import WanVAE

CONFIG = ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=2)  # heads of 128, as files imply
VAE_WIDTH = 4
WORDS = ("<pad>", "</s>", "<unk>", "A", "ball", "star", "box", "In", "snow", ".")
TEXT = {"vocab_size": len(WORDS), "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
TEXT_LENGTH = 64
RANK = 2
STEP = 64  # a LoRA's numbers are multiples of this fraction, small enough that its product is not rounded


def numbers(name: str, shape: tuple[int, ...]) -> Tensor:
    """Evenly spread in [-1, 1), float32, a function of the name and nothing else."""
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    raw = np.random.PCG64(seed).random_raw(max(1, math.prod(shape)))
    return torch.from_numpy(((raw >> np.uint64(40)).astype(np.float32) / 2**23 - 1).reshape(shape))


def _spread(name: str, like: Tensor, scale: float) -> Tensor:
    """Matrices scaled for their inputs by a power of 2; gains near 1, biases near 0."""
    drawn = numbers(name, tuple(like.shape))
    if like.ndim > 1 and "modulation" not in name and "gamma" not in name:
        return drawn * 2.0 ** round(math.log2(scale * (3 / like[0].numel()) ** 0.5))
    gain = name.endswith(("weight", "gamma"))
    return drawn / 8 + 1 if gain else drawn / 8


def _weights(module: torch.nn.Module, scale: float) -> dict[str, Tensor]:
    return {name: _spread(name, value, scale) for name, value in module.state_dict().items()}


def write_models(folder: Path) -> dict[str, Path]:
    """Write transformer, text encoder with tokenizer, VAE and LoRA; returns their paths by kind."""
    paths = {kind: folder / f"{kind}.safetensors" for kind in ("model", "text_encoder", "vae", "lora")}
    with torch.device("meta"):
        model, vae = WanModel(CONFIG), WanVAE(dim=VAE_WIDTH)
    weights = _weights(model, 1.0)
    save_file(weights, paths["model"])
    save_file(_weights(vae, 1.0), paths["vae"])
    save_file(_lora(weights), paths["lora"])
    save_file(_text_encoder(), paths["text_encoder"], {"config": json.dumps(TEXT), "text_len": str(TEXT_LENGTH)})
    _write_tokenizer(folder / "tokenizer.json")
    return paths


def _lora(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    lora = {}
    for layer in ("self_attn.q", "cross_attn.v", "ffn.0"):
        name = f"blocks.0.{layer}"
        rows, columns = weights[f"{name}.weight"].shape
        for part, shape in (("A", (RANK, columns)), ("B", (rows, RANK))):
            drawn = (numbers(f"{name} {part}", shape) * STEP).round() / STEP
            lora[f"diffusion_model.{name}.lora_{part}.weight"] = drawn
    return lora


def _text_encoder() -> dict[str, Tensor]:
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        encoder = UMT5EncoderModel(UMT5Config(**TEXT, feed_forward_proj="gated-gelu"))
    weights = _weights(encoder, 2.0)
    return {name: value for name, value in weights.items() if name != "encoder.embed_tokens.weight"}


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(path))


def write_picture(path: Path, size: tuple[int, int]) -> Path:
    """A picture of this (width, height), smooth and not grey."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    Image.fromarray(np.stack([4 * x, 6 * y, 255 - 2 * x - 3 * y], axis=-1).astype(np.uint8)).save(path)
    return path
