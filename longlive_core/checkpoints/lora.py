"""LoRA files of every trainer, merged into weights at load.

Low-rank pairs, LoHa, LoKr and differences: W' = W + strength * delta, in float32. A LoRA that does not fit is an
error, never a partly applied one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import torch
from torch import Tensor

from ..quant import dequantise, quantise_rows
from .containers import WEIGHTS
from .errors import CheckpointError, sample
from .files import read_file
from .lora_alpha import hint_of_alpha, stated_alpha, stated_config
from .lora_names import TAKE, describe_unread, has_lora_ending, read_entry
from .lora_parts import LoraLayer, Part, factors, make_part
from .modules import is_parameter
from .names import recognise, require_fractions
from .preferences import leave_out_preferences

WIDTHS = {1536: "Wan 2.1 1.3B", 3072: "Wan 2.2 5B", 5120: "Wan 14B"}
_FOREIGN_WIDTHS = (3072, 5120)
# Where the model's width stands in the shape of a layer.
_WIDTH_AT = (
    *((f"attn.{letter}{ending}", 0) for letter in "qkvo" for ending in ("", ".bias")),
    ("ffn.0", 1),
    ("ffn.2", 0),
    ("norm3", 0),
    ("norm_q", 0),
    ("norm_k", 0),
    ("modulation", -1),
)


def load_lora(path: str | os.PathLike, alpha: float | None = None) -> dict[str, Part]:
    """A LoRA's parts by the Wan tensor they change, without `.weight` (`blocks.0.self_attn.q`).

    Args:
        path: PEFT's `.pt` (bare or under `generator_lora`), or any trainer's safetensors (docs/checkpoints.md).
        alpha: for a file that states none. PEFT keeps alpha in its configuration, not beside the weights; LongLive's
            is 256 at rank 256 (`adapter` in its configs/longlive_inference.yaml). None: alpha = rank, which is the
            same for LongLive's and is ComfyUI's reading of such a file.

    Raises:
        CheckpointError: no LoRA, unknown names, half a pair, an alpha that contradicts the file's, or a LoRA of Wan
            14B or Wan 2.2 5B.
    """
    if alpha is not None and not math.isfinite(alpha):
        raise CheckpointError(f"alpha is {alpha} for the LoRA {path}; it must be a number, such as its rank")
    content, metadata = read_file(path)
    content = _opened(content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a LoRA")
    if not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path} is not a LoRA: no tensors are in it under a name that is known (generator_lora, "
            f"lora, state_dict, ...); its entries are {sample(map(str, content))}"
        )
    tensors, config = _entries(content), stated_config(content, metadata, path)
    parts = parse_lora(tensors, alpha, path, config)
    if alpha is None and not config and not any(name.endswith("alpha") for name in tensors):
        hint_of_alpha(path, metadata, parts)
    width = model_width(parts)
    if width in _FOREIGN_WIDTHS:
        raise CheckpointError(
            f"the LoRA {path} was made for {WIDTHS[width]} (width {width}), not for the 1.3B model (width 1536). {TAKE}"
        )
    return parts


def _opened(content):
    """The dictionary of a LoRA's entries, out of those that training code puts around it."""
    while isinstance(content, Mapping):
        inside = next(
            (name for name in ("generator_lora", "lora", *WEIGHTS) if isinstance(content.get(name), Mapping)), None
        )
        if inside is None:
            return content
        content = content[inside]
    return content


def _entries(content: Mapping) -> dict[str, Tensor]:
    """The tensors, and alphas that a pickle holds as plain numbers."""
    found = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            found[str(name)] = value.detach()
        elif isinstance(value, (int, float)) and str(name).endswith(".alpha"):
            found[str(name)] = torch.tensor(float(value))
    return found


def parse_lora(
    tensors: Mapping[str, Tensor], alpha: float | None = None, path="the LoRA", config: Mapping | None = None
) -> dict[str, Part]:
    """`load_lora` on tensors already read; `path` is for messages only. config: PEFT's `lora_alpha`, `use_rslora`."""
    tensors = leave_out_preferences(tensors, path)
    found: dict[str, dict[str, Tensor]] = {}
    unread, adapters, twice = [], set(), []
    for name, tensor in tensors.items():
        entry = read_entry(name)
        if entry is None:
            unread.append(name)
            continue
        roles = found.setdefault(entry.key, {})
        if entry.role in roles:
            twice.append(name)
        roles[entry.role] = tensor
        adapters |= {entry.adapter} if entry.role in ("down", "up") else set()
    if not any(has_lora_ending(name) for name in tensors):
        raise CheckpointError(f"{path} is not a LoRA: it has no lora_A/lora_B weights; {_instead(tensors)}")
    if unread:
        raise CheckpointError(f"the LoRA {path} {describe_unread(unread, tensors)}")
    if len(adapters) > 1:
        shown = ", ".join(sorted(adapter or "without a name" for adapter in adapters))
        raise CheckpointError(f"{path} holds several LoRAs (adapters: {shown}): save the one you want by itself")
    if twice:
        raise CheckpointError(f"the LoRA {path} names the same thing twice: {sample(twice)}")
    return _made(found, alpha, path, config or {})


def _instead(tensors: Mapping[str, Tensor]) -> str:
    kind = recognise(tensors)
    if any(name.endswith("head.modulation") for name in tensors):
        return "it is a Wan diffusion model; it belongs in models/diffusion_models and is given as `model`"
    return f"it is {kind.what}" if kind else f"it holds {sample(tensors)}"


def _made(found: Mapping[str, dict[str, Tensor]], alpha: float | None, path, config: Mapping) -> dict[str, Part]:
    parts, incomplete = {}, {}
    for key, roles in found.items():
        stated = stated_alpha(key, roles, path, config)
        if stated is not None and alpha is not None and stated != alpha:
            raise CheckpointError(f"the LoRA {path} states alpha {stated:g} at {key}; leave out alpha={alpha:g}")
        given = {role: tensor for role, tensor in roles.items() if role != "alpha"}
        chosen = alpha if stated is None else stated
        part = make_part(given, None if chosen is None else float(chosen))
        if isinstance(part, str):
            incomplete.setdefault(part, []).append(key)
        elif part.problem() is not None:
            raise CheckpointError(f"the LoRA {path} is inconsistent at {key}: {part.problem()}")
        else:
            parts[key] = part
    if incomplete:
        told = "; ".join(f"{what} for {sample(keys)} layers" for what, keys in incomplete.items())
        raise CheckpointError(f"the LoRA {path} is incomplete: {told}")
    require_fractions(
        {f"{key}.{name}": tensor for key, part in parts.items() for name, tensor in factors(part).items()},
        f"the LoRA {path}",
    )
    return parts


def model_width(parts: Mapping[str, Part]) -> int | None:
    """The width of the model that a LoRA was made for, as far as its attention layers tell."""
    widths = (part.size[axis] for key, part in parts.items() for ending, axis in _WIDTH_AT if key.endswith(ending))
    return next(widths, None)


def tensor_of(key: str) -> str:
    """The name of the tensor that a part changes."""
    return key if key.endswith(".bias") or is_parameter(key) else f"{key}.weight"


def merge_lora(
    state_dict: Mapping[str, Tensor], lora: Mapping[str, Part], strength: float = 1.0, *, path="of this run"
) -> dict[str, Tensor]:
    """A new state dictionary with the LoRA (`path`, in messages) added in float32, stored in each weight's dtype.

    Weights that the LoRA does not touch are shared with `state_dict`, which stays as it is. INT8 layers get new
    integers and new scales; merging before quantising loses less.
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


def _check_fit(state_dict: Mapping[str, Tensor], lora: Mapping[str, Part], path) -> None:
    present = {key: part for key, part in lora.items() if tensor_of(key) in state_dict}
    misfits = [
        f"{key} {part.size} instead of {list(state_dict[tensor_of(key)].shape)}"
        for key, part in present.items()
        if _trimmed(part.size) != _trimmed(list(state_dict[tensor_of(key)].shape))
    ]
    if misfits:
        if all(_is_transposed(part, state_dict[tensor_of(key)]) for key, part in present.items()):
            raise CheckpointError(
                f"the LoRA {path} has its factors transposed: {sample(misfits)}. It was damaged when "
                "it was converted: take the original file"
            )
        width = model_width(lora)
        model = f" ({WIDTHS[width]}, width {width})" if width in WIDTHS else ""
        raise CheckpointError(
            f"the LoRA {path} was made for a model of another size{model}; layers that differ: {sample(misfits)}. "
            f"{TAKE}"
        )
    if len(present) == len(lora):
        return
    orphans = lora.keys() - present.keys()
    if present:
        raise CheckpointError(
            f"the LoRA {path} fits this model only in part: {len(orphans)} of its {len(lora)} layers have no weight in "
            f"it: {sample(orphans)}; nothing is merged. {TAKE}"
        )
    raise CheckpointError(
        f"the LoRA {path} belongs to another model: none of its {len(lora)} layers is in this one: {sample(orphans)}. "
        f"{TAKE}"
    )


def _is_transposed(part: Part, weight: Tensor) -> bool:
    return isinstance(part, LoraLayer) and [part.up.shape[1], part.down.shape[0]] == list(weight.shape)


def _trimmed(shape: list[int]) -> list[int]:
    """A shape without axes of length 1 at its end: some trainers write linear layers as convolutions."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
