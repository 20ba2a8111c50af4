"""Attention settings in a file, per layer: `<attention>.comfy_attention.config`, JSON in bytes.

ComfyUI supports them from 0.40 on, for diffusion models and LoRAs, and the nodes apply them there. The core uses its
own attention and drops them, with a warning in the log.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping

from torch import Tensor

ATTENTION_SETTING = ".comfy_attention.config"

log = logging.getLogger(__name__)


def without_attention_settings(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without attention settings."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(ATTENTION_SETTING)}


def drop_attention_settings(tensors: Mapping[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """Return the weights without attention settings; a warning names the settings that `path` has."""
    settings = [tensor for name, tensor in tensors.items() if name.endswith(ATTENTION_SETTING)]
    if settings:
        methods = ", ".join(sorted({_method(tensor) for tensor in settings}))
        log.warning(
            "%s sets another kind of attention in %d layers (%s), which is not used here; ComfyUI uses it from 0.40 on",
            path,
            len(settings),
            methods,
        )
    return without_attention_settings(tensors)


def _method(tensor: Tensor) -> str:
    try:
        setting = json.loads(bytes(tensor.tolist()))
    except (ValueError, TypeError):
        return "unreadable"
    method = setting.get("attention") if isinstance(setting, dict) else setting
    return method if isinstance(method, str) else json.dumps(method)
