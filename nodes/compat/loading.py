"""Load files as ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import comfy.model_management as management
import comfy.sd
import torch
from torch import Tensor

from ...longlive_core.checkpoints import (
    CheckpointError,
    load_lora,
    load_state_dict,
    merge_lora,
    read_file,
    vae_tensors,
)
from ...longlive_core.checkpoints.model_kinds import recognise
from ...longlive_core.checkpoints.tensor_files import files_of
from ...longlive_core.config import WEIGHT_SETS
from ...longlive_core.device.precision import cpu_computes_bf16
from ...longlive_core.quant import int8_layers
from .forward import compute_dtype
from .int8 import Int8Operations, int8_weights, keep_int8, knows_int8, knows_preferences, take_over
from .node_schema import supported

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HALVES = [
    torch.bfloat16,
    torch.float16,
    torch.float32,
]  # in the order in which the model holds best

UMT5_EMBEDDING, UMT5_XXL_WIDTH = "shared.weight", 4096
COMFY_UMT5_KEY = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"  # T5 has it in layer 0 only


def load_model(path: str, lora: str | None, dtype: str, weights_of: str = "auto", disable_dynamic: bool = False):
    """Load a file of any supported format as ComfyUI's own MODEL, with a LoRA merged in.

    weights_of: which of two sets of weights in a file, see `WEIGHT_SETS`. disable_dynamic: newer versions pass it when
    they call a loader again.
    """
    weights = load_state_dict(path, prefer_ema=WEIGHT_SETS[weights_of], keep_attention_settings=knows_preferences())
    if lora is not None:
        weights = merge_lora(weights, load_lora(lora), path=lora)
    wanted = _weight_dtype(dtype)
    model = model_of_weights(weights, wanted, disable_dynamic)
    if model is None:
        raise CheckpointError(f"ComfyUI does not recognise {path} as a Wan 2.1 model; it needs heads of 128")
    computes = _computes_in(dtype, wanted)
    if computes is not None and computes is not compute_dtype(model):
        model.set_model_compute_dtype(computes)
        keep_int8(model, weights)
    model.cached_patcher_init = (load_model, (path, lora, dtype, weights_of))
    return model


def _weight_dtype(name: str) -> torch.dtype | None:
    """Return the dtype to keep weights in; None: ComfyUI's own choice.

    ComfyUI prefers fp16, whose range is too small for some of Wan's values. So we query it again with bf16 first; the
    user's flags still count. It never chooses bf16 on a CPU, where some CPUs are several times as fast in bf16.
    """
    if name != "auto":
        return DTYPES[name]
    if _on_cpu():
        return torch.bfloat16 if cpu_computes_bf16() else None
    return management.unet_dtype(device=management.get_torch_device(), supported_dtypes=HALVES)


def _computes_in(name: str, weights: torch.dtype | None) -> torch.dtype | None:
    """Return the compute dtype to force; None: leave it to ComfyUI.

    On a CPU ComfyUI keeps bf16 weights but computes in float32; quantised weights compute in fp16 if possible.
    """
    forced = weights is torch.bfloat16 and (name == "auto" or _on_cpu())
    return weights if forced else None


def _on_cpu() -> bool:
    return management.is_device_cpu(management.get_torch_device())


def model_of_weights(weights: dict[str, Tensor], dtype: torch.dtype | None, disable_dynamic: bool = False):
    """Return Wan weights as ComfyUI's own MODEL; None if ComfyUI does not recognise them.

    INT8 layers are ComfyUI's own from 0.27 on, else ours. Ours do not support dynamic VRAM, so it is switched off for
    this model. Raises ValueError if that is impossible.
    """
    options = {} if dtype is None else {"dtype": dtype}
    ours = bool(int8_layers(weights)) and not knows_int8()
    if ours:
        options["custom_operations"] = Int8Operations
    model = supported(
        comfy.sd.load_diffusion_model_state_dict,
        sd=dict(weights),
        model_options=options,
        disable_dynamic=disable_dynamic or ours,
    )
    if ours and model is not None and getattr(model, "is_dynamic", bool)():
        raise ValueError(
            "this version of ComfyUI moves weights in a way that INT8 layers do not support: start it with "
            "--disable-dynamic-vram, or update it to 0.27 or newer, which has INT8 layers of its own"
        )
    return model


def quantise_model(model):
    """Return a MODEL in INT8 with its LoRAs baked in, and its weights. The given MODEL is not changed; see `int8`."""
    weights = int8_weights(model)
    fresh = take_over(model_of_weights(weights, model.model.get_dtype()), model)
    keep_int8(fresh, weights)
    source = getattr(model, "cached_patcher_init", None)
    fresh.cached_patcher_init = source and (_quantised_again, (source, dict(model.patches)))
    return fresh, weights


def _quantised_again(source: tuple, patches: dict, disable_dynamic: bool = False):
    """Quantise again, see `load_model`. source: how its loader creates the unquantised MODEL again."""
    load, arguments, *part = source
    model = load(*arguments)
    model = model[part[0]] if part else model
    model.patches = dict(patches)
    return model_of_weights(int8_weights(model), model.model.get_dtype(), disable_dynamic)


def load_vae(path: str, dtype: str):
    """Load a Wan 2.1 VAE as ComfyUI's own VAE."""
    vae = comfy.sd.VAE(sd=vae_tensors(read_file(path)[0], path), dtype=_vae_dtype(dtype))
    vae.throw_exception_if_invalid()
    vae.patcher.cached_patcher_init = (_vae_patcher, (path, dtype))
    return vae


def _vae_dtype(name: str) -> torch.dtype | None:
    """Return the VAE's dtype; None: ComfyUI's own choice, which on a GPU prefers bf16 to fp16 for Wan's VAE."""
    return _weight_dtype(name) if name != "auto" or _on_cpu() else None


def _vae_patcher(path: str, dtype: str, disable_dynamic: bool = False):
    """Create the patcher alone again; ComfyUI itself decides whether a VAE is dynamic."""
    return load_vae(path, dtype).patcher


def load_clip(path: str, embeddings: Sequence[str]):
    """Load a umt5-xxl text encoder in ComfyUI's format as ComfyUI's own CLIP."""
    if len(files_of(path)) > 1:  # ComfyUI would load only this one
        raise CheckpointError(f"{path} is one of several files; use umt5_xxl_fp16.safetensors, which is a single file")
    weights, _ = read_file(path)
    width = weights[UMT5_EMBEDDING].shape[1] if UMT5_EMBEDDING in weights else None
    if COMFY_UMT5_KEY not in weights or width != UMT5_XXL_WIDTH:
        kind = recognise(map(str, weights))
        raise CheckpointError(
            f"{path} is not a umt5-xxl text encoder in ComfyUI's format{f', but {kind.what}' if kind else ''}; use "
            "umt5_xxl_fp16.safetensors or umt5_xxl_fp8_e4m3fn_scaled.safetensors (Wan's own .pth works on the command "
            "line only)"
        )
    return comfy.sd.load_clip([path], embedding_directory=list(embeddings), clip_type=comfy.sd.CLIPType.WAN)


def make_clip(model_class: type, tokenizer_class: type, again: Callable, disable_dynamic: bool = False):
    """Return a CLIP around our text encoder classes. again(disable_dynamic) creates another one."""
    target = SimpleNamespace(params={}, clip=model_class, tokenizer=tokenizer_class)
    clip = supported(comfy.sd.CLIP, target=target, disable_dynamic=disable_dynamic)
    clip.patcher.cached_patcher_init = (_clip_patcher, (again,))
    return clip


def _clip_patcher(again: Callable, disable_dynamic: bool = False):
    return again(disable_dynamic).patcher
