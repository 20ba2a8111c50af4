"""Merge a LoRA into a model's weights: W' = W + strength * delta, in float32.

A LoRA that does not fit is an error; it is never merged in part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ...quant import dequantise, quantise_rows
from ..errors import CheckpointError, sample
from ..key_table import is_parameter
from .keys import USE_INSTEAD
from .parts import LoraLayer, LoraPart
from .width import WIDTHS, model_width


def tensor_of(key: str) -> str:
    """Return the name of the tensor that a part changes."""
    return key if key.endswith(".bias") or is_parameter(key) else f"{key}.weight"


def merge_lora(
    state_dict: Mapping[str, Tensor], lora: Mapping[str, LoraPart], strength: float = 1.0, *, path="of this run"
) -> dict[str, Tensor]:
    """Return a new state dictionary with the LoRA added in float32, stored in each weight's dtype.

    `path` is for messages. Weights that the LoRA does not change are shared with `state_dict`, which is unchanged.
    INT8 layers get new integers and new scales; merging before quantising loses less.
    Raises CheckpointError unless every part of the LoRA has its weight, in the right shape.
    """
    if not math.isfinite(strength):
        raise CheckpointError(f"the strength of the LoRA {path} is {strength}; it must be a number, such as 1")
    _check_fit(state_dict, lora, path)
    merged = dict(state_dict)
    for key, part in lora.items():
        name, scale = tensor_of(key), f"{key}.weight_scale"
        weight = state_dict[name]
        delta = part.delta().to(weight.device).reshape(weight.shape)
        if scale in state_dict:
            exact = dequantise(weight, state_dict[scale])
            merged[name], merged[scale] = quantise_rows(exact.add_(delta, alpha=strength))
        else:
            merged[name] = torch.add(weight.float(), delta, alpha=strength).to(weight.dtype)
    return merged


def _check_fit(state_dict: Mapping[str, Tensor], lora: Mapping[str, LoraPart], path) -> None:
    present = {key: part for key, part in lora.items() if tensor_of(key) in state_dict}
    misfits = [
        f"{key} {part.size} instead of {list(state_dict[tensor_of(key)].shape)}"
        for key, part in present.items()
        if _trimmed(part.size) != _trimmed(list(state_dict[tensor_of(key)].shape))
    ]
    if misfits:
        if all(_is_transposed(part, state_dict[tensor_of(key)]) for key, part in present.items()):
            raise CheckpointError(
                f"the LoRA {path} has its factors transposed: {sample(misfits)}. It was damaged by "
                "a conversion: use the original file"
            )
        width = model_width(lora)
        model = f" ({WIDTHS[width]}, width {width})" if width in WIDTHS else ""
        raise CheckpointError(
            f"the LoRA {path} was made for a model of another size{model}; layers that differ: {sample(misfits)}. "
            f"{USE_INSTEAD}"
        )
    if len(present) == len(lora):
        return
    orphans = lora.keys() - present.keys()
    if present:
        raise CheckpointError(
            f"the LoRA {path} fits this model only in part: {len(orphans)} of its {len(lora)} layers have no weight in "
            f"it: {sample(orphans)}; nothing is merged. {USE_INSTEAD}"
        )
    raise CheckpointError(
        f"the LoRA {path} belongs to another model: none of its {len(lora)} layers is in this one: {sample(orphans)}. "
        f"{USE_INSTEAD}"
    )


def _is_transposed(part: LoraPart, weight: Tensor) -> bool:
    return isinstance(part, LoraLayer) and [part.up.shape[1], part.down.shape[0]] == list(weight.shape)


def _trimmed(shape: list[int]) -> list[int]:
    """Remove axes of length 1 from the end of a shape: some trainers write linear layers as convolutions."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
