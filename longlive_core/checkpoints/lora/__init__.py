"""LoRA files of every common trainer: their keys and alpha, what they change, and merging into weights."""

from .load import load_lora, parse_lora
from .merge import merge_lora
from .parts import LoraLayer, LoraPart

__all__ = ["LoraLayer", "LoraPart", "load_lora", "merge_lora", "parse_lora"]
