"""Identities of weights: short names that differ where a film would."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_SAMPLES = 64  # numbers of each tensor; a fine-tune or a LoRA changes nearly all of them
_LENGTH = 32  # hexadecimal digits


def weights_identity(module: nn.Module) -> str:
    """The identity of a module's weights, wherever they lie."""
    return identity(sorted(module.state_dict().items()))


def identity(value) -> str:
    """A hash of nested data. Of tensors it takes shape, dtype and evenly spaced numbers.

    value: tensors, plain values, tuples, lists, mappings, functions (by name), and objects that keep what they are in
    `weights`, as ComfyUI's LoRA adapters do.
    """
    total = hashlib.sha256()
    for part in _parts(value):
        total.update(part)
    return total.hexdigest()[:_LENGTH]


def _parts(value) -> Iterable[bytes]:
    if isinstance(value, Tensor):
        value = getattr(value, "_qdata", value)  # the integers of ComfyUI's quantised tensors
        yield f"{tuple(value.shape)} {value.dtype};".encode()
        yield _sample(value)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _parts((str(key), value[key]))
    elif isinstance(value, (tuple, list)):
        yield f"{len(value)}:".encode()
        for item in value:
            yield from _parts(item)
    elif value is None or isinstance(value, (str, int, float)):
        yield f"{value!r};".encode()
    else:
        yield f"{getattr(value, '__qualname__', type(value).__qualname__)};".encode()
        yield from _parts(getattr(value, "weights", None))


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    chosen = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].cpu().contiguous()
    return chosen.view(torch.uint8).numpy().tobytes()
