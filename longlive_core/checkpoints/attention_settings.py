"""Attention that a file asks for, layer by layer: `<attention>.comfy_attention.config`, JSON in bytes.

ComfyUI has it from 0.40 on, for diffusion models and LoRAs, and its nodes honour it there. The core attends in its own
way and leaves it out, which the log says.
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
    """The weights alone."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(ATTENTION_SETTING)}


def drop_attention_settings(tensors: Mapping[str, Tensor], path: str | os.PathLike) -> dict[str, Tensor]:
    """The weights alone; a warning names what `path` asks for besides."""
    asked = [tensor for name, tensor in tensors.items() if name.endswith(ATTENTION_SETTING)]
    if asked:
        methods = ", ".join(sorted({_method(tensor) for tensor in asked}))
        log.warning(
            "%s asks for attention of another kind in %d layers (%s), which is not used here; ComfyUI uses it "
            "from 0.40 on",
            path,
            len(asked),
            methods,
        )
    return without_attention_settings(tensors)


def _method(tensor: Tensor) -> str:
    try:
        asked = json.loads(bytes(tensor.tolist()))
    except (ValueError, TypeError):
        return "unreadable"
    asked = asked.get("attention") if isinstance(asked, dict) else asked
    return asked if isinstance(asked, str) else json.dumps(asked)
