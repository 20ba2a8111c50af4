"""Alpha, which scales a LoRA by alpha / rank: where files state it, and where only a trainer's notes mention it."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from .parts import LoraPart

log = logging.getLogger(__name__)

METADATA = "lora_adapter_metadata"  # where diffusers keeps PEFT's configuration, in a safetensors file


def stated_alpha(key: str, roles: Mapping[str, Tensor], path, config: Mapping) -> float | None:
    """Return the alpha that a file states for a layer, in its entries or its configuration; None if it states none."""
    if "alpha" not in roles:
        return _configured_alpha(config, roles)
    if roles["alpha"].numel() != 1 or not math.isfinite(float(roles["alpha"])):
        raise CheckpointError(
            f"the LoRA {path} is damaged: its alpha at {key} is "
            f"{roles['alpha'].flatten()[:4].tolist()} instead of one number"
        )
    return float(roles["alpha"])


def stated_config(content: Mapping, metadata: Mapping[str, str], path) -> dict:
    """Return PEFT's configuration of a LoRA.

    It is read from a file's metadata, where diffusers stores it, without the prefix of its names; or from `lora_alpha`
    next to a pickle's entries.
    """
    if METADATA not in metadata:
        beside = (content.get(name) for name in ("lora_alpha", "alpha", "network_alpha"))
        return next(({"lora_alpha": alpha} for alpha in beside if isinstance(alpha, (int, float))), {})
    try:
        given = json.loads(metadata[METADATA])
        config = {name.removeprefix("transformer."): value for name, value in given.items()}
    except (ValueError, AttributeError):
        log.warning("%s: its metadata about alpha cannot be read and are ignored", path)
        return {}
    if config.get("use_dora") or config.get("alpha_pattern") or config.get("lora_bias"):
        kinds = [name for name in ("use_dora", "alpha_pattern", "lora_bias") if config.get(name)]
        raise CheckpointError(
            f"the LoRA {path} was made with {' and '.join(kinds)}, which is not merged here; save it "
            "with alpha for every layer, or as an ordinary LoRA"
        )
    return config


def warn_about_alpha(path: str | os.PathLike, metadata: Mapping[str, str], parts: Mapping[str, LoraPart]) -> None:
    """Log a warning if only a trainer's notes mention alpha.

    Notes do not count as a statement: converters that multiply the scale into the weights leave them unchanged.
    """
    noted = {"ss_network_alpha": metadata.get("ss_network_alpha")}
    beside = Path(path).with_name("adapter_config.json")
    for name, text in (
        ("lora_config", metadata.get("lora_config")),
        (beside.name, beside.read_text("utf-8", "replace") if beside.is_file() else None),
    ):
        try:
            noted[name] = json.loads(text or "{}").get("lora_alpha")
        except (ValueError, AttributeError):
            continue
    for name, alpha in noted.items():
        try:
            differs = alpha is not None and any(part.rank and float(alpha) != part.rank for part in parts.values())
        except (ValueError, TypeError):
            continue
        if differs:
            log.warning(
                "%s: no layer states alpha, so the rank is used, but %s says %s: if the LoRA is too "
                "strong or too weak, give that value (alpha, --lora-alpha)",
                path,
                name,
                alpha,
            )


def _configured_alpha(config: Mapping, roles: Mapping[str, Tensor]) -> float | None:
    alpha = config.get("lora_alpha")
    if not isinstance(alpha, (int, float)) or "down" not in roles:
        return None
    rank = roles["down"].shape[0]
    return float(alpha) * math.sqrt(rank) if config.get("use_rslora") else float(alpha)
