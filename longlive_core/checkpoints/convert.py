"""Conversion into files that ComfyUI's own loaders read: UNETLoader for models, the LoRA loaders for LoRAs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from ..quant import place, quantise_state_dict
from .files import CheckpointError, fingerprint, write_safetensors
from .lora import LoraLayer, load_lora, merge_lora
from .models import build_model, load_state_dict
from .preferences import without_preferences

COMFY_LORA_PREFIX = "diffusion_model."


def convert_model(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    lora: str | os.PathLike | None = None,
    lora_alpha: float | None = None,
    strength: float = 1.0,
    dtype: torch.dtype | None = torch.bfloat16,
    prefer_ema: bool | None = None,
    int8: bool = False,
) -> Path:
    """Write any supported diffusion model as one safetensors file with bare Wan names.

    Args:
        target: ends in `.safetensors`; written whole or not at all.
        lora, lora_alpha, strength: a LoRA to merge, before the weights are rounded to `dtype`.
        dtype: None keeps the source's. What is INT8 in the source stays so.
        prefer_ema: as in `load_state_dict`.
        int8: quantise the blocks' linear layers (docs/int8.md), from the merged weights.

    Raises:
        CheckpointError: whatever `load_state_dict`, `load_lora`, `merge_lora` and a strict load raise.
    """
    for given in (source, lora):
        _different(given, target)
    state_dict = load_state_dict(source, prefer_ema=prefer_ema, preferences=True)
    build_model(without_preferences(state_dict), device="meta", path=source)  # strict: names and shapes
    metadata = {"format": "pt", **_origin("source", source)}
    if lora is not None:
        state_dict = merge_lora(state_dict, load_lora(lora, lora_alpha), strength, path=lora)
        alpha = "rank, unless the file says otherwise" if lora_alpha is None else f"{lora_alpha:g}"
        metadata |= {**_origin("lora", lora), "lora_strength": f"{strength:g}", "lora_alpha": alpha}
    if int8:
        state_dict = quantise_state_dict(state_dict)  # before rounding to `dtype`, not after
    return write_safetensors(target, place(state_dict, dtype=dtype), metadata)


def convert_lora(source: str | os.PathLike, target: str | os.PathLike, *, alpha: float | None = None) -> Path:
    """Write a LoRA with the names ComfyUI's LoRA loaders know, alpha included; the factors keep their dtype.

    `alpha` is for a source that states none, see `load_lora`.
    """
    _different(source, target)
    return write_lora(target, load_lora(source, alpha), _origin("source", source))


def write_lora(target: str | os.PathLike, lora: Mapping[str, LoraLayer], origin: Mapping[str, str]) -> Path:
    """Write a LoRA's layers with the names ComfyUI's LoRA loaders know; `origin` goes into the file's metadata."""
    tensors = {}
    for layer, part in lora.items():
        name = COMFY_LORA_PREFIX + layer
        tensors[f"{name}.lora_A.weight"] = part.down
        tensors[f"{name}.lora_B.weight"] = part.up
        tensors[f"{name}.alpha"] = torch.tensor(part.alpha)
    return write_safetensors(target, tensors, {"format": "pt", **origin})


def _different(source: str | os.PathLike | None, target: str | os.PathLike) -> None:
    if source is not None and Path(source).resolve() == Path(target).resolve():
        raise CheckpointError(f"the output is the input ({target}); choose another name")


def _origin(role: str, path: str | os.PathLike) -> dict[str, str]:
    return {f"{role}_file": Path(path).name, f"{role}_sha256": fingerprint(path)}
