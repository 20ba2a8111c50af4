"""LoRA tuning with PEFT: what LongLive's long tuning trains (section 3.3; appendix, Table A: rank 256).

All linear layers of the blocks get a low-rank pair; everything else stays as it is. What is written is a LoRA file that
`--lora`, Load LongLive and ComfyUI's LoRA loaders read.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..checkpoints.lora import parse_lora
from ..checkpoints.lora.parts import LoraPart
from .packages import needed
from .settings import LoraSettings


def add_lora(module: nn.Module, settings: LoraSettings, seed: int) -> None:
    """Put the pairs into a model's blocks, in place; only they require gradients afterwards."""
    peft = needed("peft")
    dtype = next(module.parameters()).dtype
    layers = [
        name for name, part in module.named_modules() if isinstance(part, nn.Linear) and name.startswith("blocks.")
    ]
    module.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the down matrices start at random, the same on every rank
        pairs = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=layers)
        peft.inject_adapter_in_model(pairs, module)
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
            parameter.requires_grad_(True)


def lora_layers(weights: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, LoraPart]:
    """The trained pairs, from weights under PEFT's names (`blocks.0.self_attn.q.lora_A.default.weight`)."""
    return parse_lora({name: value for name, value in weights.items() if "lora_" in name}, settings.alpha)
