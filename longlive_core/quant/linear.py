"""The INT8 linear layer as a module that replaces `nn.Linear`.

Its state dictionary is the `int8_tensorwise` layout of `layout.py`, so it is saved and loaded like any module. As with
every module of the causal forward, callers use its forward and never its `.weight`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .int8 import int8_linear
from .layout import is_block_linear, mark, quantise_weight


class Int8Linear(nn.Module):
    """W8A8 linear layer: [..., in] -> [..., out] in the input's dtype.

    Args:
        dtype: of the bias. The weight is int8 and its scales are float32, whatever the module is cast to.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        weight = torch.zeros(out_features, in_features, dtype=torch.int8, device=device)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(out_features, device=device, dtype=dtype)) if bias else None
        self.register_buffer("weight_scale", torch.ones(out_features, 1, device=device))
        self.register_buffer("comfy_quant", mark().to(device))

    @classmethod
    def from_linear(cls, linear: nn.Linear, name: str = "the layer") -> Int8Linear:
        """Quantise a layer; the bias is shared."""
        weight, scale = quantise_weight(linear.weight.detach(), name)
        layer = cls(linear.in_features, linear.out_features, linear.bias is not None, "meta")
        tensors = {"weight": weight, "weight_scale": scale, "comfy_quant": mark().to(weight.device)}
        if linear.bias is not None:
            tensors["bias"] = linear.bias.detach()
        layer.load_state_dict(tensors, assign=True)
        return layer.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return int8_linear(x, self.weight, self.weight_scale, self.bias)

    def _apply(self, fn, recurse: bool = True):
        """Move and cast as PyTorch does, except the scales: 8 or 11 bits of mantissa are too few for them."""
        scale = self.weight_scale
        super()._apply(fn, recurse)
        if self.weight_scale.dtype != scale.dtype:
            self.weight_scale = scale.to(self.weight_scale.device)
        return self

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def quantise_module(module: nn.Module) -> nn.Module:
    """Replace the linear layers of a Wan model's blocks with INT8 layers, in place; return `module`.

    Raises ValueError if it has none: it is not a Wan model, or is INT8 already.
    """
    found = [(n, m) for n, m in module.named_modules() if is_block_linear(n) and isinstance(m, nn.Linear)]
    if not found:
        raise ValueError(
            f"nothing to quantise: {type(module).__name__} has no linear layers under Wan's names, "
            "such as blocks.0.self_attn.q, or they are INT8 already"
        )
    for name, linear in found:
        _replace(module, name, Int8Linear.from_linear(linear, name))
    return module


def insert_int8_linears(module: nn.Module, layers: Iterable[str]) -> None:
    """Replace the linear layers of these names with empty INT8 layers, into which weights can be loaded.

    Raises ValueError for a name that is not a linear layer.
    """
    modules = dict(module.named_modules())
    for name in layers:
        linear = modules.get(name)
        if not isinstance(linear, nn.Linear):
            raise ValueError(f"{name} is quantised in the file but is not a linear layer of the model")
        bias = linear.bias
        dtype = None if bias is None else bias.dtype
        empty = Int8Linear(linear.in_features, linear.out_features, bias is not None, linear.weight.device, dtype)
        _replace(module, name, empty)


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)
