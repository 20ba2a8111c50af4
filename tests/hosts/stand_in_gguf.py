"""A stand-in for ComfyUI-GGUF, with what matters of it here: a weight is packed bytes that say another shape, cloning
and detaching give the tensor itself, and a layer's state dictionary holds tensors without content.
"""

from __future__ import annotations

import comfy.ops
import torch


class StandInTensor(torch.Tensor):
    def __new__(cls, data, tensor_type, tensor_shape):
        return super().__new__(cls, data)

    def __init__(self, data, tensor_type, tensor_shape):
        self.tensor_type, self.tensor_shape = tensor_type, tensor_shape

    @property
    def shape(self):
        return self.__dict__.get("tensor_shape", self.size())

    def detach(self, *given, **options):
        return self

    def clone(self, *given, **options):
        return self

    def to(self, *given, **options):
        moved = super().to(*given, **options)
        moved.tensor_type, moved.tensor_shape = self.tensor_type, self.tensor_shape
        return moved


class StandInOperations(comfy.ops.manual_cast):
    class Linear(comfy.ops.manual_cast.Linear):
        dequant_dtype = patch_dtype = None

        def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features, self.weight, self.bias = in_features, out_features, None, None

        def _load_from_state_dict(self, state_dict, prefix, *given):
            for name in ("weight", "bias"):
                setattr(self, name, torch.nn.Parameter(state_dict[prefix + name], requires_grad=False))

        def _save_to_state_dict(self, destination, prefix, keep_vars):
            destination[f"{prefix}weight"] = torch.zeros(self.weight.size(), device="meta")
            if self.bias is not None:
                destination[f"{prefix}bias"] = torch.zeros(self.bias.size(), device="meta")
