"""Models with weights packed as by ComfyUI-GGUF, for inside_identity.py."""

import importlib
import sys
import types

import comfy.sd
import torch
from stand_in_gguf import StandInOperations, StandInTensor


def gguf_layers(folder: str | None) -> types.SimpleNamespace:
    """Return tensor class, layers, patcher and tensor kinds of the ComfyUI-GGUF in a folder, or of its stand-in."""
    if folder is None:
        kinds = types.SimpleNamespace(Q8_0="Q8_0", F32="F32")
        return types.SimpleNamespace(tensor=StandInTensor, ops=StandInOperations, patcher=None, kinds=kinds)
    package = types.ModuleType("gguf_pack")
    package.__path__ = [folder]
    sys.modules["gguf_pack"] = package
    ops, nodes = importlib.import_module("gguf_pack.ops"), importlib.import_module("gguf_pack.nodes")
    kinds = importlib.import_module("gguf").GGMLQuantizationType
    return types.SimpleNamespace(tensor=ops.GGMLTensor, ops=ops.GGMLOps, patcher=nodes.GGUFModelPatcher, kinds=kinds)


def gguf_model(layers, tensors):
    content = {name: gguf_tensor(layers, name, tensor) for name, tensor in tensors.items()}
    model = comfy.sd.load_diffusion_model_state_dict(content, model_options={"custom_operations": layers.ops})
    return model if layers.patcher is None else layers.patcher.clone(model)


def gguf_tensor(layers, name: str, tensor):
    if name.endswith("weight") and tensor.ndim == 2 and tensor.shape[1] % 32 == 0 and "block" in name:
        return layers.tensor(q8_0(tensor), tensor_type=layers.kinds.Q8_0, tensor_shape=tensor.shape)
    return layers.tensor(tensor, tensor_type=layers.kinds.F32, tensor_shape=tensor.shape)


def q8_0(weight: torch.Tensor) -> torch.Tensor:
    """[N, K] as the bytes of GGUF's Q8_0: for each 32 numbers a float16 scale and 32 int8."""
    blocks = weight.reshape(-1, 32)
    scale = blocks.abs().amax(1, keepdim=True) / 127
    packed = torch.cat([scale.half().view(torch.uint8), (blocks / scale).round().to(torch.int8).view(torch.uint8)], 1)
    return packed.reshape(weight.shape[0], -1)
