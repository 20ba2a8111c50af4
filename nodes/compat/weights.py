"""The weights of a MODEL, a CLIP or a VAE as they were loaded, wherever ComfyUI keeps them and whatever it did to them.

Read from the modules: state dictionaries of quantised models are made up (ComfyUI-GGUF's has tensors without content).
What a name holds of a weight is taken at once, so that nothing large is converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...longlive_core.checkpoints.key_table import strip_wrappers
from ...longlive_core.quant.layout import MARK, SCALE, WEIGHT, mark
from ...longlive_core.run.identity import Sample

INT8_LAYOUT = "TensorWiseINT8Layout"  # of ComfyUI's own INT8 layers, with nothing else set
PLAIN_GGUF = ("F32", "F16")  # kinds of GGUF tensors that are ordinary tensors


def weights_of(patcher, module: nn.Module, prefix: str, what: str) -> dict[str, Sample | str]:
    """What a name holds of the weights in a patcher's `module`, by their names in it.

    prefix: of the module's names in the patcher's model. what: MODEL, CLIP or VAE.
    ValueError where a weight has no content.
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
                    f"the {what} cannot be named, so no film of it could be found again: {error} ({full}, "
                    f"{type(tensor).__name__}). Load it with another loader"
                ) from error
    return found


def _own(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own parameters and the buffers that belong into files."""
    buffers = {name: buffer for name, buffer in part._buffers.items() if name not in part._non_persistent_buffers_set}
    for name, tensor in (part._parameters | buffers).items():
        if tensor is not None:
            # Of an INT8 layer of ours: while a patched weight is in place, its scales are, too.
            unpatched = getattr(part, "unpatched_scale", None) if f".{name}" == SCALE else None
            yield name, tensor if unpatched is None else unpatched


def _kept_in(part: nn.Module, name: str) -> torch.dtype | None:
    """The dtype that ComfyUI (0.12) computes a parameter's numbers from, which it may hold in the file's till then."""
    return getattr(part, f"{name}_comfy_model_dtype", None)


def _described(name: str, tensor: Tensor, kept_in: torch.dtype | None) -> Mapping[str, Sample | str]:
    if hasattr(tensor, "_qdata"):
        return _quantised(name.removesuffix(WEIGHT), tensor)
    if hasattr(tensor, "__tensor_flatten__"):  # of other libraries, such as torchao
        parts = {part: getattr(tensor, part) for part in tensor.__tensor_flatten__()[0]}
        return {f"{name}.{part}": Sample.of(held) for part, held in parts.items()} | {name: type(tensor).__qualname__}
    kind = getattr(tensor, "tensor_type", None)
    content = tensor.as_subclass(torch.Tensor)
    if kind is None or _word(kind) in PLAIN_GGUF:
        return {name: Sample.of(content).to(kept_in)}
    return {name: Sample.of_bytes(content), f"{name}.gguf": f"{_word(kind)} {tuple(tensor.tensor_shape)}"}


def _quantised(layer: str, tensor: Tensor) -> dict[str, Sample | str]:
    """ComfyUI's own quantised weight, in the form of `quant.layout`: with its scales and what it means."""
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
    """What the numbers mean: files' own mark for plain INT8, else the layout and what is set of it."""
    aside = {"orig_dtype", "orig_shape", "is_weight", *([] if fields.get("convrot") else ["convrot_groupsize"])}
    told = {name: value for name, value in fields.items() if name not in aside and not isinstance(value, Tensor)}
    told = {name: value for name, value in told.items() if value not in (None, False)}
    return Sample.of(mark()) if layout == INT8_LAYOUT and not told else f"{layout} {sorted(told.items())}"


def _word(kind: Any) -> str:
    return str(getattr(kind, "name", kind))
