"""Wan 2.1's transformer under its official names, and the causal forward for any module with these names."""

from .attention import Attention, default_attention
from .causal import CausalWan, PromptKeys
from .rotary import Rotary
from .wan import WanModel

__all__ = ["Attention", "CausalWan", "PromptKeys", "Rotary", "WanModel", "default_attention"]
