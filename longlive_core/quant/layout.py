"""ComfyUI's `int8_tensorwise` layout of a state dictionary.

    <layer>.weight         int8 [N, K]
    <layer>.weight_scale   float32 [N, 1], one number per output channel (despite the layout's name)
    <layer>.comfy_quant    uint8, the bytes of the JSON {"format": "int8_tensorwise"}
    <layer>.bias           as in the unquantised file

Only the linear layers of the blocks are quantised; embeddings, norms, modulation and head stay as they are.
ComfyUI reads this layout itself from 0.27 on. Files from other programs may have one scale for a whole weight.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .int8 import MAX_FEATURES, quantise_rows

FORMAT = "int8_tensorwise"
WEIGHT, SCALE, MARK = ".weight", ".weight_scale", ".comfy_quant"
_BLOCK_LINEAR = re.compile(r"blocks\.\d+\.(?:(?:self_attn|cross_attn)\.[qkvo]|ffn\.[02])")


def mark() -> Tensor:
    """Return the content of `<layer>.comfy_quant`."""
    return torch.tensor(list(json.dumps({"format": FORMAT}).encode()), dtype=torch.uint8)


def is_block_linear(layer: str) -> bool:
    """Return whether a module of this name is one of the ten linear layers of a Wan block."""
    return _BLOCK_LINEAR.fullmatch(layer) is not None


def quantise_weight(weight: Tensor, layer: str = "the layer") -> tuple[Tensor, Tensor]:
    """Quantise a weight [N, K] -> int8 [N, K] and float32 scales [N, 1].

    Raises ValueError if K is so large that sums may not fit into 32 bits.
    """
    if weight.shape[1] > MAX_FEATURES:
        raise ValueError(f"{layer} has {weight.shape[1]} input features; INT8 takes at most {MAX_FEATURES}")
    return quantise_rows(weight)


def quantise_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantise the blocks' linear layers of Wan weights. Layers that are INT8 already are kept.

    All other tensors are shared with `state_dict`, which is not changed.
    Raises ValueError if there is no such layer: then it is not a Wan model.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        layer = name.removesuffix(WEIGHT)
        if name.endswith(WEIGHT) and is_block_linear(layer) and tensor.is_floating_point():
            out[name], out[layer + SCALE] = quantise_weight(tensor, layer)
            out[layer + MARK] = mark()
        else:
            out[name] = tensor
    if not any(name.endswith(MARK) for name in out):
        raise ValueError(
            f"nothing to quantise: none of {len(state_dict)} names is a linear layer of Wan's blocks, "
            "such as blocks.0.self_attn.q.weight"
        )
    return out


def int8_layers(state_dict: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the layers that are marked as quantised."""
    return [name.removesuffix(MARK) for name in state_dict if name.endswith(MARK)]


def canonical(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Check every quantised layer of a file and convert its scale and mark to the form above.

    Raises ValueError for other quantisations and variants, with the layer and its format.
    """
    out = dict(state_dict)
    for layer in int8_layers(state_dict):
        _check_mark(layer, state_dict[layer + MARK])
        weight, scale = state_dict.get(layer + WEIGHT), state_dict.get(layer + SCALE)
        if weight is None or weight.dtype != torch.int8 or weight.ndim != 2:
            found = "no weight" if weight is None else f"a weight of {weight.dtype}, shape {list(weight.shape)}"
            raise ValueError(f"{layer} is marked as {FORMAT} but has {found} instead of int8 [out, in]")
        if scale is None or scale.numel() not in (1, weight.shape[0]):
            found = "no scale" if scale is None else f"{scale.numel()} scales"
            raise ValueError(f"{layer} has {found}; {FORMAT} has one, or one for each of {weight.shape[0]} outputs")
        out[layer + SCALE] = scale.float().reshape(-1, 1).expand(weight.shape[0], 1).contiguous()
        out[layer + MARK] = mark()
    return out


def _check_mark(layer: str, content: Tensor) -> None:
    try:
        settings = json.loads(bytes(content.tolist()))
        given = settings.pop("format", None)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{layer}{MARK} is not JSON") from error
    if given != FORMAT:
        raise ValueError(f"{layer} is in the format {given}, not in {FORMAT}")
    extra = {name: value for name, value in settings.items() if value}
    if extra:  # such as ConvRot's rotation, without which the weights are meaningless
        raise ValueError(f"{layer} is {FORMAT} with {', '.join(extra)}, which LongLive does not support")


def place(
    state_dict: Mapping[str, Tensor], device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Move tensors to `device`, and cast floating point, except scales, to `dtype` (None: unchanged)."""
    scales = {layer + SCALE for layer in int8_layers(state_dict)}
    return {
        name: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() and name not in scales else None)
        for name, tensor in state_dict.items()
    }


def block_linear_bytes(state_dict: Mapping[str, Tensor]) -> int:
    """Return the bytes of the blocks' linear layers: weights, scales, marks and biases."""
    return sum(t.nbytes for name, t in state_dict.items() if is_block_linear(name.rpartition(".")[0]))
