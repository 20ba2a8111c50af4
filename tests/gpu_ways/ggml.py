"""A stand-in for the weights and layers of ComfyUI-GGUF: packed 8-bit blocks that a layer unpacks when it runs.

Written from what that pack does, not with its code. What matters here: the parameter's bytes have another shape than
the weight, its `shape` answers with the weight's, copies are not made, the state dictionary is a sham of `meta`
tensors, and LoRAs hang on the parameter until the layer unpacks it.

Q8_0: rows in blocks of 32 numbers, each a float16 scale and 32 int8: 34 bytes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

BLOCK, BYTES = 32, 34


class Packed(Tensor):
    """uint8 bytes [rows, columns / 32 * 34] that stand for a weight of `shape`. patches: LoRAs to add once unpacked."""

    @staticmethod
    def __new__(cls, data: Tensor, stands_for: torch.Size):
        return data.as_subclass(cls)

    def __init__(self, data: Tensor, stands_for: torch.Size):
        self.stands_for, self.patches = stands_for, []

    @property
    def shape(self) -> torch.Size:
        return getattr(self, "stands_for", self.size())

    def to(self, *args, **kwargs):
        moved = super().to(*args, **kwargs)
        moved.stands_for, moved.patches = self.shape, list(getattr(self, "patches", []))
        return moved

    def clone(self, *args, **kwargs):
        return self

    def detach(self):
        return self


def pack(weight: Tensor) -> Packed:
    """[rows, columns] -> its Q8_0 bytes."""
    blocks = weight.float().unflatten(-1, (-1, BLOCK))
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    numbers = torch.where(scale > 0, blocks / scale, 0).round().to(torch.int8)
    data = torch.cat([scale.half().view(torch.uint8), numbers.view(torch.uint8)], dim=-1).flatten(-2)
    return Packed(data, weight.shape)


def unpack(packed: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight that the bytes stand for."""
    data = packed.as_subclass(Tensor) if type(packed) is Packed else packed
    blocks = data.unflatten(-1, (-1, BYTES))
    scale, numbers = blocks[..., :2].contiguous().view(torch.float16), blocks[..., 2:].contiguous().view(torch.int8)
    return (scale.to(dtype) * numbers.to(dtype)).flatten(-2)


def operations():
    """Layers of ComfyUI whose linear layer accepts packed weights, for `custom_operations`."""
    import comfy.lora
    import comfy.ops

    class Linear(comfy.ops.manual_cast.Linear):
        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            nn.Module.__init__(self)
            self.in_features, self.out_features, self.weight, self.bias = in_features, out_features, None, None

        def _load_from_state_dict(self, state_dict, prefix, *others):
            for name in ("weight", "bias"):
                if f"{prefix}{name}" in state_dict:
                    setattr(self, name, nn.Parameter(state_dict[f"{prefix}{name}"], requires_grad=False))

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            if not isinstance(self.weight, Packed):
                return super()._save_to_state_dict(destination, prefix, keep_vars)
            for name, value in (("weight", self.weight), ("bias", self.bias)):
                destination[prefix + name] = torch.empty(value.size(), dtype=value.dtype, device="meta")
            return None

        def forward_comfy_cast_weights(self, x):
            if not isinstance(self.weight, Packed):
                return super().forward_comfy_cast_weights(x)
            weight = unpack(self.weight.to(x.device), x.dtype)
            for patches, key in self.weight.patches:
                weight = comfy.lora.calculate_weight(patches, weight, key)
            return F.linear(x, weight, self.bias.to(x.device, x.dtype))

    return type("PackedOperations", (comfy.ops.manual_cast,), {"Linear": Linear})


def patcher(model):
    """The MODEL with LoRAs that hang on packed weights, since nothing can be added to bytes."""
    import comfy.model_patcher
    import comfy.utils

    class PackedPatcher(comfy.model_patcher.ModelPatcher):
        def patch_weight_to_device(self, key, device_to=None, inplace_update=False, **options):
            weight = comfy.utils.get_attr(self.model, key)
            if key not in self.patches or not isinstance(weight, Packed):
                return super().patch_weight_to_device(key, device_to, inplace_update, **options)
            moved = weight.to(device_to)
            moved.patches = [(self.patches[key], key)]
            comfy.utils.set_attr_param(self.model, key, moved)
            return None

        def unpatch_model(self, device_to=None, unpatch_weights=True):
            for parameter in self.model.parameters() if unpatch_weights else ():
                if isinstance(parameter, Packed):
                    parameter.patches = []
            return super().unpatch_model(device_to, unpatch_weights)

        def load(self, *args, force_patch_weights=False, **options):
            return super().load(*args, force_patch_weights=True, **options)  # also where a layer stays offloaded

        def clone(self, *args, **options):
            made = super().clone(*args, **options)
            made.__class__ = PackedPatcher
            return made

    model.__class__ = PackedPatcher
    return model


def real_pack(weights: dict[str, Tensor], folder: str):
    """Return the MODEL that a folder's ComfyUI-GGUF creates from weights, some `Packed`. Needs the package gguf.

    Its loader reads a file; what follows is what it does with the tensors it finds there.
    """
    import importlib
    import sys
    import types

    import comfy.sd
    from gguf import GGMLQuantizationType

    package = sys.modules.setdefault("gguf_pack", types.ModuleType("gguf_pack"))
    package.__path__ = [folder]
    layers = importlib.import_module("gguf_pack.ops")
    kinds = {True: GGMLQuantizationType.Q8_0, False: GGMLQuantizationType.F32}
    made = {}
    with _disable_current_modes():  # its tensors are made by a constructor that no mode may stand before
        for name, value in weights.items():
            kind, shape = kinds[isinstance(value, Packed)], value.shape
            made[name] = layers.GGMLTensor(value.as_subclass(Tensor), tensor_type=kind, tensor_shape=shape)
    return comfy.sd.load_diffusion_model_state_dict(made, model_options={"custom_operations": layers.GGMLOps()})
