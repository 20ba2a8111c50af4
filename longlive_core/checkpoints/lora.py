"""LoRA files: LongLive's `lora.pt` (PEFT names) and ComfyUI's, merged into weights at load.

Linear layers only: W' = W + strength * alpha / rank * up @ down. A LoRA that does not fit is an error, never a
partly applied one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..quant import dequantise, quantise_rows
from .files import CheckpointError, read_file, sample
from .names import LORA_PREFIXES, unwrap
from .preferences import leave_out_preferences

_FACTOR = re.compile(r"(?P<layer>.+)\.(?P<factor>lora_A|lora_B|lora_down|lora_up)(?:\.default)?\.weight")
TAKE = "Take LongLive's lora.pt here; ComfyUI's LoRA loader nodes apply other LoRAs for Wan 1.3B"
_ROLE = {"lora_A": "down", "lora_down": "down", "lora_B": "up", "lora_up": "up"}


class LoraLayer(NamedTuple):
    """One layer's low-rank update: down [rank, in], up [out, rank], and alpha, which scales it by alpha / rank."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(self) -> Tensor:
        """What it adds to a weight [out, in] at strength 1, in float32."""
        return (self.up.float() @ self.down.float()) * (self.alpha / self.rank)


def load_lora(path: str | os.PathLike, alpha: float | None = None) -> dict[str, LoraLayer]:
    """A LoRA's layers by Wan module name (`blocks.0.self_attn.q`).

    Args:
        path: PEFT `.pt` (bare or under `generator_lora`) or safetensors in PEFT's or ComfyUI's names.
        alpha: for a file that states none. PEFT keeps alpha in its configuration, not beside the weights; LongLive's
            is 256 at rank 256 (`adapter` in its configs/longlive_inference.yaml). None: alpha = rank, which is the
            same for LongLive's and is ComfyUI's reading of such a file.

    Raises:
        CheckpointError: no LoRA, unknown names, half a pair, or an alpha that contradicts the file's.
    """
    content, _ = read_file(path)
    if isinstance(content, Mapping) and isinstance(content.get("generator_lora"), Mapping):
        content = content["generator_lora"]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a LoRA")
    return parse_lora({n: t for n, t in content.items() if isinstance(t, Tensor)}, alpha, path)


def parse_lora(tensors: Mapping[str, Tensor], alpha: float | None = None, path="the LoRA") -> dict[str, LoraLayer]:
    """`load_lora` on tensors already read; `path` is for messages only."""
    factors: dict[str, dict[str, Tensor]] = {}
    unknown, tensors = [], leave_out_preferences(tensors, path)
    for name, tensor in tensors.items():
        bare = _bare(name)
        if bare.endswith(".alpha"):
            factors.setdefault(bare.removesuffix(".alpha"), {})["alpha"] = tensor
        elif match := _FACTOR.fullmatch(bare):
            factors.setdefault(match["layer"], {})[_ROLE[match["factor"]]] = tensor
        else:
            unknown.append(name)
    if not any("down" in parts or "up" in parts for parts in factors.values()):
        raise CheckpointError(f"{path} is not a LoRA: it has no lora_A/lora_B weights; it holds {sample(tensors)}")
    if unknown:
        raise CheckpointError(f"the LoRA {path} has entries that are not understood: {sample(unknown)}. {TAKE}")
    halves = [layer for layer, parts in factors.items() if not {"down", "up"} <= parts.keys()]
    if halves:
        raise CheckpointError(f"the LoRA {path} is incomplete: lora_A or lora_B is missing for {sample(halves)} layers")
    return {layer: _layer(layer, parts, alpha, path) for layer, parts in factors.items()}


def _bare(name: str) -> str:
    name = unwrap(name)
    prefix = next((prefix for prefix in LORA_PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def _layer(name: str, parts: Mapping[str, Tensor], alpha: float | None, path) -> LoraLayer:
    down, up = parts["down"], parts["up"]
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise CheckpointError(
            f"the LoRA {path} is inconsistent at {name}: lora_A {list(down.shape)} and lora_B {list(up.shape)} "
            "do not multiply (expected [rank, in] and [out, rank])"
        )
    stated = float(parts["alpha"]) if "alpha" in parts else None
    if stated is not None and alpha is not None and stated != alpha:
        raise CheckpointError(f"the LoRA {path} states alpha {stated:g} at {name}; leave out alpha={alpha:g}")
    return LoraLayer(down, up, next(a for a in (stated, alpha, float(down.shape[0])) if a is not None))


def merge_lora(
    state_dict: Mapping[str, Tensor], lora: Mapping[str, LoraLayer], strength: float = 1.0, *, path="of this run"
) -> dict[str, Tensor]:
    """A new state dictionary with the LoRA (`path`, in messages) added in float32, stored in each weight's dtype.

    Weights that the LoRA does not touch are shared with `state_dict`, which stays as it is. INT8 layers get new
    integers and new scales; merging before quantising loses less.
    Raises CheckpointError unless every layer of the LoRA has its weight, in the right shape.
    """
    orphans = [layer for layer in lora if f"{layer}.weight" not in state_dict]
    if orphans:
        raise CheckpointError(_orphaned(orphans, len(lora), path))
    shapes = {layer: [part.up.shape[0], part.down.shape[1]] for layer, part in lora.items()}
    misfits = [
        f"{layer} {shape} instead of {list(state_dict[f'{layer}.weight'].shape)}"
        for layer, shape in shapes.items()
        if shape != list(state_dict[f"{layer}.weight"].shape)
    ]
    if misfits:
        raise CheckpointError(
            f"the LoRA {path} was made for a model of another size; layers that differ: {sample(misfits)}. {TAKE}"
        )
    merged = dict(state_dict)
    for layer, part in lora.items():
        name, scale = f"{layer}.weight", f"{layer}.weight_scale"
        weight, delta = state_dict[name], part.delta().to(state_dict[name].device)
        if scale in state_dict:
            exact = dequantise(weight, state_dict[scale])
            merged[name], merged[scale] = quantise_rows(exact.add_(delta, alpha=strength))
        else:
            merged[name] = torch.add(weight.float(), delta, alpha=strength).to(weight.dtype)
    return merged


def _orphaned(orphans: list[str], count: int, path) -> str:
    if len(orphans) < count:
        return (
            f"the LoRA {path} fits this model only in part: {len(orphans)} of its {count} layers have no weight in "
            f"it: {sample(orphans)}; nothing is merged. {TAKE}"
        )
    kohya = " (kohya's names, which are not read here)" if orphans[0].startswith("lora_unet_") else ""
    return (
        f"the LoRA {path} belongs to another model: none of its {count} layers is in this one: {sample(orphans)}"
        f"{kohya} instead of blocks.0.self_attn.q and the like. {TAKE}"
    )
