"""Identities of weights: short names that differ where a film would."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

_SAMPLES = 64  # numbers of each tensor; a fine-tune or a LoRA changes nearly all of them
_LENGTH = 32  # hexadecimal digits


def weights_identity(module: nn.Module) -> str:
    """A hash of names, shapes, dtypes and evenly spaced numbers of a module's weights, wherever they lie."""
    total = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        flat = tensor.detach().reshape(-1)
        chosen = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].cpu().contiguous()
        total.update(chosen.view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:_LENGTH]
