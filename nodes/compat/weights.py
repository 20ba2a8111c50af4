"""Read the weights of a MODEL, CLIP or VAE as they were loaded, wherever ComfyUI keeps them and however it changed
them.

They are read from the modules, since state dictionaries of quantised models are artificial (ComfyUI-GGUF's has tensors
without content). Only the sample of each weight that its identity needs is read, so nothing large is converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...longlive_core.checkpoints.key_table import strip_wrappers
from ...longlive_core.quant.layout import MARK, SCALE, WEIGHT, mark
from ...longlive_core.run.identity import Sample

INT8_LAYOUT = "TensorWiseINT8Layout"  # layout of ComfyUI's own INT8 layers, without further settings
PLAIN_GGUF = ("F32", "F16")  # types of GGUF tensors that are ordinary tensors


def weights_of(patcher, module: nn.Module, prefix: str, what: str) -> dict[str, Sample | str]:
    """Return what an identity contains of each weight in a patcher's `module`, by name.

    prefix: prefix of the module's names in the patcher's model. what: MODEL, CLIP or VAE.
    Raises ValueError if a weight has no content.
    """
    found: dict[str, Sample | str] = {}
    for place, part in module.named_modules(remove_duplicate=False):
        for name, tensor in _own(part):
            full = f"{place}.{name}" if place else name
            kept = patcher.backup.get(prefix + full)
            try:
                found |= _described(strip_wrappers(full), tensor if kept is None else kept.weight, _kept_in(part, name))
            except (ValueError, NotImplementedError) as error:
                raise ValueError(
                    f"the {what} cannot be identified, so its films could not be found again: {error} ({full}, "
                    f"{type(tensor).__name__}). Load it with another loader"
                ) from error
    return found


def _own(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's own parameters and persistent buffers."""
    buffers = {name: buffer for name, buffer in part._buffers.items() if name not in part._non_persistent_buffers_set}
    for name, tensor in (part._parameters | buffers).items():
        if tensor is not None:
            # In our INT8 layers, a patched weight also has its own scales in place.
            unpatched = getattr(part, "unpatched_scale", None) if f".{name}" == SCALE else None
            yield name, tensor if unpatched is None else unpatched


def _kept_in(part: nn.Module, name: str) -> torch.dtype | None:
    """Return the dtype to which ComfyUI (0.12) casts a parameter when it is loaded; before, it has the file's dtype."""
    return getattr(part, f"{name}_comfy_model_dtype", None)


def _described(name: str, tensor: Tensor, kept_in: torch.dtype | None) -> Mapping[str, Sample | str]:
    if hasattr(tensor, "_qdata"):
        return _quantised(name.removesuffix(WEIGHT), tensor)
    if hasattr(tensor, "__tensor_flatten__"):  # tensors of other libraries, such as torchao
        parts = {part: getattr(tensor, part) for part in tensor.__tensor_flatten__()[0]}
        return {f"{name}.{part}": Sample.of(held) for part, held in parts.items()} | {name: type(tensor).__qualname__}
    kind = getattr(tensor, "tensor_type", None)
    content = tensor.as_subclass(torch.Tensor)
    if kind is None or _word(kind) in PLAIN_GGUF:
        return {name: Sample.of(content).to(kept_in)}
    return {name: Sample.of_bytes(content), f"{name}.gguf": f"{_word(kind)} {tuple(tensor.tensor_shape)}"}


def _quantised(layer: str, tensor: Tensor) -> dict[str, Sample | str]:
    """Describe ComfyUI's own quantised weight in the form of `quant.layout`, with scales and format."""
    params = getattr(tensor, "_params", None)  # 0.8; before it a dictionary
    fields = dict(tensor._layout_params) if params is None else {name: getattr(params, name) for name in vars(params)}
    scale = fields.pop("scale", None)
    layout = getattr(tensor, "_layout_cls", None) or getattr(tensor, "_layout_type", "")
    found: dict[str, Sample | str] = {layer + WEIGHT: Sample.of(tensor._qdata)}
    if scale is not None:
        rows = tensor._qdata.shape[0] if layout == INT8_LAYOUT else None
        found[layer + SCALE] = Sample.of(scale if rows is None else scale.float().reshape(-1, 1).expand(rows, 1))
    found |= {f"{layer}{SCALE}_{name}": Sample.of(value) for name, value in fields.items() if isinstance(value, Tensor)}
    found[layer + MARK] = _meaning(str(layout), fields)
    return found


def _meaning(layout: str, fields: Mapping[str, Any]) -> Sample | str:
    """Return the format of the numbers: the files' mark for plain INT8, else the layout and its settings."""
    aside = {"orig_dtype", "orig_shape", "is_weight", *([] if fields.get("convrot") else ["convrot_groupsize"])}
    set_fields = {name: value for name, value in fields.items() if name not in aside and not isinstance(value, Tensor)}
    set_fields = {name: value for name, value in set_fields.items() if value not in (None, False)}
    return Sample.of(mark()) if layout == INT8_LAYOUT and not set_fields else f"{layout} {sorted(set_fields.items())}"


def _word(kind: Any) -> str:
    return str(getattr(kind, "name", kind))
