"""The width of the model that a LoRA was trained for."""

from __future__ import annotations

from collections.abc import Mapping

from .parts import LoraPart

WIDTHS = {1536: "Wan 2.1 1.3B", 3072: "Wan 2.2 5B", 5120: "Wan 14B"}

# The axis of a layer's shape that is the model's width.
_WIDTH_AT = (
    *((f"attn.{letter}{ending}", 0) for letter in "qkvo" for ending in ("", ".bias")),
    ("ffn.0", 1),
    ("ffn.2", 0),
    ("norm3", 0),
    ("norm_q", 0),
    ("norm_k", 0),
    ("modulation", -1),
)


def model_width(parts: Mapping[str, LoraPart]) -> int | None:
    """Return the width of the model that a LoRA was trained for, from the shapes of its layers; None if unknown."""
    widths = (part.size[axis] for key, part in parts.items() for ending, axis in _WIDTH_AT if key.endswith(ending))
    return next(widths, None)
