"""Identities of weights: short names that differ whenever the rendered film would.

A model has the same name on the command line and in ComfyUI with any of its loaders. So a name depends on nothing
that only one of them knows, and on nothing that changes while a host loads, moves or offloads weights:

- Weights count under Wan's own names, and the text encoder's under Hugging Face's, without a host's prefixes.
- Numbers count as they enter the computation: rounded to the dtype that the run computes in. The dtype of the file
  changes no film and does not count. Nor does the dtype in which a host keeps a weight (in ComfyUI always float32 for
  the patch embedding; under dynamic VRAM the file's until the first load). Numbers that were rounded earlier, such as
  float32 weights kept in bfloat16 and computed in float32, are different numbers.
- Quantised weights count as they are stored: integers or bytes, scales, and format.
- A text encoder's 16-bit weights count as bfloat16, since the command line computes float16 files in it and ComfyUI
  does not; 32 bits and 8 bits count as they are.
- A LoRA merged into the weights at load is part of them. Patches that a host attaches to a model are named separately.

A few numbers of every tensor are enough: a fine-tune or a LoRA changes nearly all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checkpoints.text_encoder import EMBEDDING, EMBEDDING_TWIN
from ..quant.layout import SCALE

_SAMPLES = 64  # numbers of each tensor
_RUN = 64  # bytes
_LENGTH = 32  # hexadecimal digits


@dataclass(frozen=True)
class Sample:
    """The part of a tensor that its identity covers: shape, and evenly spaced numbers on the CPU, in their dtype."""

    shape: tuple[int, ...]
    numbers: Tensor

    @classmethod
    def of(cls, value: Tensor | Sample) -> Sample:
        """Take a sample. ValueError if a tensor has no content."""
        if isinstance(value, Sample):
            return value
        if value.is_meta:
            raise ValueError("a weight has no content: it is on PyTorch's meta device")
        flat = value.detach().reshape(-1)
        return cls(tuple(value.shape), flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].cpu().contiguous())

    @classmethod
    def of_bytes(cls, packed: Tensor) -> Sample:
        """Take a sample of numbers packed into blocks with their scales: runs of bytes.

        Single evenly spaced bytes may all have the same place in their blocks.
        """
        runs = packed.detach().reshape(-1).split(_RUN)
        chosen = runs[:: max(1, len(runs) // _SAMPLES)][:_SAMPLES]
        return cls(tuple(packed.shape), torch.cat(chosen).cpu())

    def to(self, dtype: torch.dtype | None) -> Sample:
        """Return it with its numbers in another dtype (None: the same); integers and bytes stay as they are."""
        if dtype is None or not self.numbers.is_floating_point():
            return self
        return Sample(self.shape, self.numbers.to(dtype))


Weights = nn.Module | Mapping[str, Tensor | Sample | str]
"""A module, or its weights by name; text states what no tensor does."""


def weights_identity(weights: Weights, dtype: torch.dtype) -> str:
    """Return the identity of a model's or a VAE's weights in a run that computes in `dtype`, on any device."""
    return identity(sorted((name, _rounded(name, value, dtype)) for name, value in _by_name(weights).items()))


def text_identity(weights: Weights) -> str:
    """Return the identity of a text encoder's weights, under Hugging Face's names."""
    found = {name: _as_text(value) for name, value in _by_name(weights).items()}
    if EMBEDDING in found:
        found.setdefault(EMBEDDING_TWIN, found[EMBEDDING])  # one tensor, which some loaders list twice
    return identity(sorted(found.items()))


def _by_name(weights: Weights) -> Mapping[str, Tensor | Sample | str]:
    return weights.state_dict() if isinstance(weights, nn.Module) else weights


def _rounded(name: str, value: Tensor | Sample | str, dtype: torch.dtype) -> Sample | str:
    if isinstance(value, str):
        return value
    return Sample.of(value).to(None if name.endswith(SCALE) else dtype)  # scales are never cast


def _as_text(value: Tensor | Sample | str) -> Sample | str:
    if isinstance(value, str):
        return value
    sample = Sample.of(value)
    return sample.to(torch.bfloat16 if sample.numbers.dtype == torch.float16 else None)


def identity(value) -> str:
    """Return a hash of nested data; of tensors it covers shape, dtype and evenly spaced numbers.

    value: tensors, plain values, tuples, lists, mappings, functions (by name), and objects that keep their content
    in `weights`, as ComfyUI's LoRA adapters do. The result is part of stored takes: it must never change.
    """
    total = hashlib.sha256()
    for part in _parts(value):
        total.update(part)
    return total.hexdigest()[:_LENGTH]


def _parts(value) -> Iterable[bytes]:
    if isinstance(value, (Tensor, Sample)):
        sample = Sample.of(getattr(value, "_qdata", value))  # the integers of ComfyUI's quantised tensors
        yield f"{sample.shape} {sample.numbers.dtype};".encode()
        yield sample.numbers.view(torch.uint8).numpy().tobytes()
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
