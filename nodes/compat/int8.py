"""INT8 in ComfyUI's internals. Written against ComfyUI 0.3.75.

From 0.27 on ComfyUI loads and computes the `int8_tensorwise` layout itself. For older versions this file has a linear
layer that ComfyUI's model patcher loads, offloads and patches like its own.
"""

from __future__ import annotations

import comfy.ldm.modules.attention
import comfy.lora
import comfy.model_management as management
import comfy.ops
import comfy.quant_ops
import torch
from torch import Tensor

from ...longlive_core.checkpoints.attention_settings import ATTENTION_SETTING as IN_FILES
from ...longlive_core.checkpoints.errors import sample
from ...longlive_core.checkpoints.wan_keys import QUANTISED
from ...longlive_core.config import ModelConfig
from ...longlive_core.quant import (
    dequantise,
    int8_layers,
    int8_linear,
    is_block_linear,
    quantise_rows,
    quantise_state_dict,
)
from ...longlive_core.quant.layout import FORMAT, mark
from .forward import compiler_of

PREFERENCE = ".comfy_attention"
PREFIX = "diffusion_model."  # prefix of the transformer's names in ComfyUI's model
# Attributes of the model patcher that other nodes may have set and that are not bound to the model's modules.
CARRIED = (
    "model_options",
    "object_patches",
    "weight_wrapper_patches",
    "attachments",
    "additional_models",
    "callbacks",
    "wrappers",
    "force_cast_weights",
)


def knows_int8() -> bool:
    """Return whether this version of ComfyUI has its own INT8 layers."""
    return FORMAT in getattr(comfy.quant_ops, "QUANT_ALGOS", {})


def knows_preferences() -> bool:
    """Return whether this version (0.40) supports the attention that a file requests."""
    return hasattr(comfy.ldm.modules.attention, "ComfyAttention")


# --- our linear layer, for versions without one ----------------------------------------------------------------------


class OpenLinear(comfy.ops.manual_cast.Linear):
    """ComfyUI's linear layer; it becomes an INT8 layer if the loaded weight is INT8 (in the form of `canonical`)."""

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        if f"{prefix}comfy_quant" in state_dict:
            self.__class__ = Int8Linear
            self.become_int8()
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class Int8Operations(comfy.ops.manual_cast):
    """ComfyUI's layers with `OpenLinear` as the linear layer."""

    Linear = OpenLinear


class Int8Linear(OpenLinear):
    """ComfyUI's linear layer with an INT8 weight.

    ComfyUI keeps a patched layer's original weight and restores it by assigning `weight`; the scales belong to the
    weight and are restored with it. Scales and mark are buffers, so they are in the state dictionary and ComfyUI's save
    nodes write the files' layout.
    """

    unpatched_scale: Tensor | None = None  # scales of the original weight, while a patched weight replaces it

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "weight" and self.unpatched_scale is not None:
            self.weight_scale = self.unpatched_scale.to(self.weight_scale.device)
            self.unpatched_scale = None

    def forward_comfy_cast_weights(self, input):
        """Compute the layer; tensors on another device (low VRAM) are copied to the input's device for this use."""
        bias = self._bias(input)
        if self.weight_function:
            weight, scale = quantise_rows(self._patched_weight(input.device))
        else:
            weight, scale = _move(self.weight, input.device), _move(self.weight_scale, input.device)
        return int8_linear(input, weight, scale, bias)

    def _bias(self, input: Tensor) -> Tensor | None:
        if self.bias is None:
            return None
        bias = _move(self.bias, input.device).to(input.dtype, copy=bool(self.bias_function))
        for function in self.bias_function:
            bias = function(bias)
        return bias

    def _patched_weight(self, device) -> Tensor:
        """Return the weight in float32 with the patches of an offloaded layer, which ComfyUI applies at each use.

        Versions differ in which code dequantises around such a patch, so it is applied here, to floats.
        """
        weight = dequantise(_move(self.weight, device), _move(self.weight_scale, device))
        for function in self.weight_function:
            if hasattr(function, "patches"):
                weight = comfy.lora.calculate_weight(function.patches[function.key], weight, function.key)
            else:
                weight = function(weight)
        return weight

    def convert_weight(self, weight, inplace=False, **options):
        """Dequantise for ComfyUI's patches: the original integers (in any dtype) -> the weight they represent."""
        scale = self.weight_scale if self.unpatched_scale is None else self.unpatched_scale
        return dequantise(weight, scale.to(weight.device))

    def set_weight(self, weight, inplace_update=False, seed=None, return_weight=False, **options):
        """Set a patched weight for ComfyUI's patches, with its own scales."""
        if inplace_update or return_weight:
            raise ValueError(
                "INT8 layers cannot take a LoRA that is scheduled (hooks) or saved in this way; put the "
                "LoRA loader before Quantize INT8"
            )
        quantised, scale = quantise_rows(weight)
        original = self.weight_scale
        self.weight = torch.nn.Parameter(quantised, requires_grad=False)
        self.unpatched_scale, self.weight_scale = original, scale

    def become_int8(self) -> None:
        """Replace the weight by an empty INT8 weight with scales."""
        place = {"device": self.weight.device}
        self.weight = torch.nn.Parameter(torch.zeros(self.weight.shape, dtype=torch.int8, **place), requires_grad=False)
        self.register_buffer("weight_scale", torch.ones(self.weight.shape[0], 1, **place))
        self.register_buffer("comfy_quant", mark().to(**place))


def _move(tensor: Tensor, device) -> Tensor:
    return tensor.to(device, non_blocking=management.device_supports_non_blocking(device))


# --- from a MODEL to INT8 weights and back ---------------------------------------------------------------------------


def int8_weights(model) -> dict[str, Tensor]:
    """Return a MODEL's weights under Wan's names, on the CPU: LoRAs baked in, the blocks' linear layers in INT8.

    The MODEL is only read. Layers are computed one by one, so there is never a second copy of the whole model.
    Raises ValueError if it is not a Wan model, is quantised already, or has patches that cannot be baked in.
    """
    ModelConfig.from_module(model.model.diffusion_model)
    _refuse_what_cannot_be_baked(model)
    weights = _preferences(model)
    for key, (original, *patches) in model.get_key_patches(PREFIX).items():
        weights |= _baked(key, original, patches, model.load_device)
    return weights


def _preferences(model) -> dict[str, Tensor]:
    """Return the attention that a MODEL's file requests (0.40); it is not a weight."""
    return {
        name.removeprefix(PREFIX): tensor.cpu()
        for name, tensor in model.model.state_dict().items()
        if name.startswith(PREFIX) and name.endswith(IN_FILES)
    }


def _baked(key: str, original, patches: list, device) -> dict[str, Tensor]:
    weight, convert = original
    name = key.removeprefix(PREFIX)
    if not weight.is_floating_point():  # such as GGUF's bytes
        raise ValueError(f"the MODEL is quantised already ({name} is {weight.dtype}): connect the bf16 or fp16 model")
    block_linear = name.endswith(".weight") and is_block_linear(name.removesuffix(".weight"))
    if not block_linear and not patches:
        return {name: weight.detach().cpu()}
    exact = convert(management.cast_to_device(weight, device, torch.float32, copy=True), inplace=True)
    exact = comfy.lora.calculate_weight(patches, exact, key)
    baked = quantise_state_dict({name: exact}) if block_linear else {name: exact.to(weight.dtype)}
    return {name: tensor.cpu() for name, tensor in baked.items()}


def _refuse_what_cannot_be_baked(model) -> None:
    marks = [name for name in model.model.state_dict() if name.endswith(QUANTISED)]
    if marks:
        raise ValueError(f"the MODEL is quantised already, it has {sample(marks)}: connect the bf16 or fp16 model")
    # The attention requested by a file or a LoRA (0.40) is kept: it is not bound to a weight.
    bound = [name for name in model.object_patches if name.startswith(PREFIX) and not name.endswith(PREFERENCE)]
    compiled = compiler_of(model) is not None
    reasons = [
        reason
        for found, reason in (
            (model.injections, f"injections ({', '.join(model.injections)}), such as a LoRA in bypass mode"),
            (model.hook_patches, "scheduled LoRAs (hooks)"),
            (bound, f"replaced parts ({', '.join(bound[:3])})"),
            (compiled, "compiled blocks"),
        )
        if found
    ]
    if reasons:
        raise ValueError(
            f"the MODEL has {' and '.join(reasons)}, which would be lost in INT8: put Quantize INT8 "
            "before the node that does this"
        )


def take_over(fresh, model):
    """Copy what other nodes have set on a MODEL, except what is baked into its weights, to a `fresh` one."""
    if type(fresh.model) is not type(model.model):
        raise ValueError(
            f"ComfyUI loads the INT8 weights as {type(fresh.model).__name__}, but the MODEL is "
            f"{type(model.model).__name__}; this type of model cannot be quantised"
        )
    twin = model.clone()
    for name in CARRIED:
        setattr(fresh, name, getattr(twin, name))
    return fresh


def keep_int8(model, weights: dict[str, Tensor]) -> None:
    """Do not force the compute dtype: ComfyUI's own INT8 layers would dequantise, and they follow it anyway."""
    if int8_layers(weights) and knows_int8():
        model.force_cast_weights = False
