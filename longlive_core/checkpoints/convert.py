"""Conversion into files that ComfyUI's own loaders read: UNETLoader for models, the LoRA loaders for LoRAs.

The input is checked first. The output is read again before it gets its final name: it must have the keys that those
loaders know, with exactly the intended numbers. Otherwise nothing is left behind.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..quant import place, quantise_state_dict
from .attention_settings import without_attention_settings
from .errors import CheckpointError, sample
from .key_table import wan_module
from .lora import load_lora, merge_lora, parse_lora
from .lora.parts import LoraPart, factors
from .models import build_model, load_state_dict
from .tensor_files import files_of, fingerprint, read_file, write_safetensors
from .wan_keys import to_wan_keys
from .weight_checks import lora_problems, merge_problems, weight_problems

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
        target: must end in `.safetensors`; written completely or not at all.
        lora, lora_alpha, strength: a LoRA to merge, before the weights are rounded to `dtype`.
        dtype: None keeps the source's. INT8 layers of the source stay INT8.
        prefer_ema: as in `load_state_dict`.
        int8: quantise the blocks' linear layers (docs/int8.md), from the merged weights.

    Raises:
        CheckpointError: anything that `load_state_dict`, `load_lora`, `merge_lora` and a strict load raise; damaged
            weights (`weight_checks.py`); a LoRA without effect; an output that differs from what was intended.
    """
    for given in (*files_of(source), lora):
        _require_other_file(given, target)
    state_dict = load_state_dict(source, prefer_ema=prefer_ema, keep_attention_settings=True)
    build_model(without_attention_settings(state_dict), device="meta", path=source)  # strict: names and shapes
    _require_sound(weight_problems(without_attention_settings(state_dict), copies=True), source)
    metadata = {"format": "pt", **_origin("source", source)}
    if lora is not None:
        parts = load_lora(lora, lora_alpha)
        _require_sound(lora_problems(parts, strength), f"the LoRA {lora}")
        merged = merge_lora(state_dict, parts, strength, path=lora)
        _require_sound(merge_problems(state_dict, merged, parts), f"the LoRA {lora}")
        state_dict = merged
        alpha = "rank, unless the file says otherwise" if lora_alpha is None else f"{lora_alpha:g}"
        metadata |= {**_origin("lora", lora), "lora_strength": f"{strength:g}", "lora_alpha": alpha}
    if int8:
        state_dict = quantise_state_dict(state_dict)  # before rounding to `dtype`, not after
    placed = place(state_dict, dtype=dtype)
    return write_safetensors(target, placed, metadata, lambda output: _verify_model(output, placed, target))


def _verify_model(output: Path, expected: Mapping[str, Tensor], target: str | os.PathLike) -> None:
    """Raise CheckpointError unless the output is a Wan model under bare names with the numbers in `expected`."""
    written, _ = read_file(output)
    _require_equal(written, expected, target)
    named = without_attention_settings(to_wan_keys(written, target, any_width=True))
    if not named.keys() <= written.keys():
        raise CheckpointError(f"the conversion failed: {target} would not have Wan's names; nothing is written")
    build_model(named, device="meta", path=target)


def _require_equal(written: Mapping[str, Tensor], expected: Mapping[str, Tensor], target: str | os.PathLike) -> None:
    differing = [
        name
        for name in written.keys() | expected.keys()
        if name not in written or name not in expected or not _same(written[name], expected[name])
    ]
    if differing:
        raise CheckpointError(
            f"the conversion failed: {target} read again differs from what was written, "
            f"in {sample(differing)}; nothing is left behind. Try another disk"
        )


def _same(one: Tensor, other: Tensor) -> bool:
    other = other.cpu()
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def _require_sound(problems: list[str], what: str | os.PathLike) -> None:
    if problems:
        raise CheckpointError(f"{what} {'; it '.join(problems)}. Nothing is written")


def convert_lora(source: str | os.PathLike, target: str | os.PathLike, *, alpha: float | None = None) -> Path:
    """Write a LoRA with the keys that ComfyUI's LoRA loaders know, alpha included; the factors keep their dtype.

    `alpha` is for a source that states none, see `load_lora`.
    """
    for given in files_of(source):
        _require_other_file(given, target)
    parts = load_lora(source, alpha)
    _require_sound(lora_problems(parts), f"the LoRA {source}")
    return write_lora(target, parts, _origin("source", source))


def write_lora(target: str | os.PathLike, lora: Mapping[str, LoraPart], origin: Mapping[str, str]) -> Path:
    """Write a LoRA's parts with the keys that ComfyUI's LoRA loaders know, and `origin` in the file's metadata."""
    tensors = {
        f"{COMFY_LORA_PREFIX}{key}{ending}": value
        for key, part in lora.items()
        for ending, value in part.tensors().items()
    }
    return write_safetensors(
        target, tensors, {"format": "pt", **origin}, lambda output: _verify_lora(output, tensors, lora, target)
    )


def _verify_lora(
    output: Path, expected: Mapping[str, Tensor], lora: Mapping[str, LoraPart], target: str | os.PathLike
) -> None:
    """Raise CheckpointError unless the output has ComfyUI's keys for Wan's layers, and is read as the same LoRA."""
    written, _ = read_file(output)
    _require_equal(written, expected, target)
    again = parse_lora(written, path=target)
    foreign = [key for key in lora if wan_module(key.removesuffix(".bias")) != key.removesuffix(".bias")]
    changed = [
        key
        for key in lora
        if key not in again
        or again[key].scale != lora[key].scale
        or factors(again[key]).keys() != factors(lora[key]).keys()
    ]
    if foreign or changed or len(again) != len(lora):
        raise CheckpointError(
            f"the conversion failed: {target} would not be read as the same LoRA, in "
            f"{sample(foreign + changed)}; nothing is left behind"
        )


def _require_other_file(source: str | os.PathLike | None, target: str | os.PathLike) -> None:
    if source is not None and Path(source).resolve() == Path(target).resolve():
        raise CheckpointError(f"the output is the input ({target}); choose another name")


def _origin(role: str, path: str | os.PathLike) -> dict[str, str]:
    return {f"{role}_file": Path(path).name, f"{role}_sha256": fingerprint(path)}
