"""Dynamic VRAM as newer ComfyUIs do it on CUDA (0.12 on), for hosts without it and for a card that is not there.

What matters of it: weights stay as the file has them, in main memory and in the file's dtype, until their layer runs,
which casts them for that use; and at the first load parameters that belong to no layer of their own, such as a block's
`modulation`, are cast to the model's dtype and moved for good, without a copy of what they were.
"""

from __future__ import annotations

import comfy.model_patcher
from torch import Tensor, nn

PREFIX = "diffusion_model."


class DynamicPatcher(comfy.model_patcher.ModelPatcher):
    def is_dynamic(self) -> bool:
        return True

    def load(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False):
        super().load(device_to, lowvram_model_memory=1, force_patch_weights=force_patch_weights)
        for module in self.model.modules():
            if any(True for _ in module.children()):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    moved = parameter.to(device_to, getattr(module, f"{name}_comfy_model_dtype", parameter.dtype))
                    setattr(module, name, nn.Parameter(moved, requires_grad=False))


def make_dynamic(model, weights: dict[str, Tensor]):
    """A MODEL whose weights are those of the file, not yet cast. weights: under Wan's names, as the file has them."""
    inner = model.model.diffusion_model
    for name, value in weights.items():
        if name == "scaled_fp8":  # says of what kind the file is
            continue
        owner, _, leaf = name.rpartition(".")
        module = inner.get_submodule(owner)
        own = getattr(module, leaf, None)
        if own is None or hasattr(own, "_qdata"):  # newer versions keep packed weights as in the file
            continue
        setattr(module, f"{leaf}_comfy_model_dtype", own.dtype)
        setattr(module, leaf, nn.Parameter(value.clone(), requires_grad=False))
    model.__class__ = DynamicPatcher
    return model
