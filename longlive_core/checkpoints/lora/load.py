"""Load LoRA files from any trainer: low-rank pairs, LoHa, LoKr and differences."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import torch
from torch import Tensor

from ..attention_settings import drop_attention_settings
from ..errors import CheckpointError, sample
from ..model_kinds import recognise
from ..tensor_files import read_file
from ..wan_keys import require_floating_point
from ..weight_sets import WEIGHT_NAMES
from .alpha import stated_alpha, stated_config, warn_about_alpha
from .keys import USE_INSTEAD, describe_unread, has_lora_ending, parse_key
from .parts import LoraPart, factors, make_part
from .width import WIDTHS, model_width

_FOREIGN_WIDTHS = (3072, 5120)


def load_lora(path: str | os.PathLike, alpha: float | None = None) -> dict[str, LoraPart]:
    """Return a LoRA's parts by the Wan tensor that they change, without `.weight` (`blocks.0.self_attn.q`).

    Args:
        path: PEFT's `.pt` (bare or under `generator_lora`), or any trainer's safetensors (docs/checkpoints.md).
        alpha: for a file that states none. PEFT keeps alpha in its configuration, not with the weights; LongLive's
            is 256 at rank 256 (`adapter` in its configs/longlive_inference.yaml). None: alpha = rank, which is the
            same for LongLive's, and what ComfyUI uses for such a file.

    Raises:
        CheckpointError: not a LoRA, unknown keys, an incomplete pair, an alpha that contradicts the file's, or a LoRA
            of Wan 14B or Wan 2.2 5B.
    """
    if alpha is not None and not math.isfinite(alpha):
        raise CheckpointError(f"alpha is {alpha} for the LoRA {path}; it must be a number, such as its rank")
    content, metadata = read_file(path)
    content = _opened(content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a LoRA")
    if not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path} is not a LoRA: it holds no tensors under a known name (generator_lora, "
            f"lora, state_dict, ...); its entries are {sample(map(str, content))}"
        )
    tensors, config = _entries(content), stated_config(content, metadata, path)
    parts = parse_lora(tensors, alpha, path, config)
    if alpha is None and not config and not any(name.endswith("alpha") for name in tensors):
        warn_about_alpha(path, metadata, parts)
    width = model_width(parts)
    if width in _FOREIGN_WIDTHS:
        raise CheckpointError(
            f"the LoRA {path} was made for {WIDTHS[width]} (width {width}), not for the 1.3B model (width 1536). "
            f"{USE_INSTEAD}"
        )
    return parts


def _opened(content):
    """Return the dictionary of a LoRA's entries, from inside the dictionaries that training code adds around it."""
    while isinstance(content, Mapping):
        inside = next(
            (name for name in ("generator_lora", "lora", *WEIGHT_NAMES) if isinstance(content.get(name), Mapping)), None
        )
        if inside is None:
            return content
        content = content[inside]
    return content


def _entries(content: Mapping) -> dict[str, Tensor]:
    """Return the tensors, and alphas that a pickle holds as plain numbers."""
    found = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            found[str(name)] = value.detach()
        elif isinstance(value, (int, float)) and str(name).endswith(".alpha"):
            found[str(name)] = torch.tensor(float(value))
    return found


def parse_lora(
    tensors: Mapping[str, Tensor], alpha: float | None = None, path="the LoRA", config: Mapping | None = None
) -> dict[str, LoraPart]:
    """Do the same as `load_lora` for tensors already read; `path` is for messages only.

    config: PEFT's `lora_alpha`, `use_rslora`.
    """
    tensors = drop_attention_settings(tensors, path)
    found: dict[str, dict[str, Tensor]] = {}
    unread, adapters, twice = [], set(), []
    for name, tensor in tensors.items():
        entry = parse_key(name)
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
    return _build_parts(found, alpha, path, config or {})


def _instead(tensors: Mapping[str, Tensor]) -> str:
    kind = recognise(tensors)
    if any(name.endswith("head.modulation") for name in tensors):
        return "it is a Wan diffusion model; it belongs in models/diffusion_models and is given as `model`"
    return f"it is {kind.what}" if kind else f"it holds {sample(tensors)}"


def _build_parts(
    found: Mapping[str, dict[str, Tensor]], alpha: float | None, path, config: Mapping
) -> dict[str, LoraPart]:
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
        missing = "; ".join(f"{what} for {sample(keys)} layers" for what, keys in incomplete.items())
        raise CheckpointError(f"the LoRA {path} is incomplete: {missing}")
    require_floating_point(
        {f"{key}.{name}": tensor for key, part in parts.items() for name, tensor in factors(part).items()},
        f"the LoRA {path}",
    )
    return parts
