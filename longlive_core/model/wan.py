"""Wan 2.1's text-to-video transformer as a tree of named modules.

Names and shapes are the published ones, so official weights load strictly. There is no forward: the causal forward in
`causal.py` runs this module in the same way as ComfyUI's.
"""

from __future__ import annotations

import torch
from torch import nn

from ..config import ModelConfig


class SelfAttention(nn.Module):
    """The layers of an attention; Wan's cross-attention has the same."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)


class Block(nn.Module):
    """Self-attention, cross-attention to the prompt, feed-forward; the first and last are modulated by the timestep."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        dim, eps = config.dim, config.eps
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.self_attn = SelfAttention(dim, eps)
        self.norm3 = nn.LayerNorm(dim, eps)
        self.cross_attn = SelfAttention(dim, eps)
        self.norm2 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        gelu = nn.GELU(approximate="tanh")
        self.ffn = nn.Sequential(nn.Linear(dim, config.ffn_dim), gelu, nn.Linear(config.ffn_dim, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)


class Head(nn.Module):
    """The output layer: features to patches of latents, modulated by the timestep."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        patch_volume = config.patch_size[0] * config.patch_size[1] * config.patch_size[2]
        self.norm = nn.LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = nn.Linear(config.dim, patch_volume * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)


class WanModel(nn.Module):
    """The transformer of a `ModelConfig`; its attributes have the same names as the config's."""

    def __init__(self, config: ModelConfig, device: torch.device | str | None = None, dtype: torch.dtype | None = None):
        super().__init__()
        self.dim, self.ffn_dim, self.eps = config.dim, config.ffn_dim, config.eps
        self.num_heads, self.num_layers = config.num_heads, config.num_layers
        self.in_dim, self.out_dim, self.patch_size = config.in_dim, config.out_dim, config.patch_size
        self.text_dim, self.freq_dim = config.text_dim, config.freq_dim
        dim, gelu = config.dim, nn.GELU(approximate="tanh")
        self.patch_embedding = nn.Conv3d(config.in_dim, dim, config.patch_size, stride=config.patch_size)
        self.text_embedding = nn.Sequential(nn.Linear(config.text_dim, dim), gelu, nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim * 6))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)
        self.to(device=device, dtype=dtype)
