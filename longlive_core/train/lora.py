"""LoRA tuning with PEFT, as in LongLive's long tuning (section 3.3; appendix, Table A: rank 256).

All linear layers of the blocks get a pair of low-rank matrices; all other weights are frozen. The result is a LoRA file
that `--lora`, Load LongLive and ComfyUI's LoRA loaders read.
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
    """Add LoRA matrices to a model's blocks, in place; afterwards only they require gradients."""
    peft = needed("peft")
    dtype = next(module.parameters()).dtype
    layers = [
        name for name, part in module.named_modules() if isinstance(part, nn.Linear) and name.startswith("blocks.")
    ]
    module.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the down matrices start random, identical on every rank
        pairs = peft.LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=layers)
        peft.inject_adapter_in_model(pairs, module)
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
            parameter.requires_grad_(True)


def lora_layers(weights: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, LoraPart]:
    """Extract the trained LoRA from weights under PEFT's names (`blocks.0.self_attn.q.lora_A.default.weight`)."""
    return parse_lora({name: value for name, value in weights.items() if "lora_" in name}, settings.alpha)
