"""All that depends on ComfyUI's version or on its insides; the nodes themselves use `comfy_api.latest` only.

Written against ComfyUI 0.3.75. What newer versions change, and why it does not matter here:
- arguments: those of NEWER_ARGUMENTS are given where the signature has them;
- the interrupt is a BaseException from 0.20 on: it is caught by its name (`Cancelled`) in one place, to keep the film
  so far; all else is tidied up in `finally` and `with`;
- weights may be absent, elsewhere or quantised until a module runs (dynamic VRAM, 0.12): only forwards are called, and
  every patcher made here says how to make it again (`cached_patcher_init`);
- the VAE's decoder takes other groups of frames and returns a list (0.18): its layers are called, never it.

`compat_forward`, `compat_patches`, `compat_int8`, `compat_identity`, `compat_prompt`, `compat_server`, `compat_text`
and `compat_weights` are parts of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import comfy.cli_args as cli_args
import comfy.latent_formats
import comfy.model_management as management
import comfy.sd
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..longlive_core.cancelling import cancelled_by
from ..longlive_core.checkpoints import (
    CheckpointError,
    load_lora,
    load_state_dict,
    merge_lora,
    read_file,
    unsuitable,
    vae_tensors,
)
from ..longlive_core.checkpoints.files import files_of
from ..longlive_core.checkpoints.names import recognise
from ..longlive_core.config import WEIGHT_SETS, ModelConfig
from ..longlive_core.device.precision import cpu_computes_bf16
from ..longlive_core.model import CausalWan
from ..longlive_core.quant import int8_layers
from ..longlive_core.run.memory import free_memory
from ..longlive_core.takes import clip_latents
from ..longlive_core.vae import StreamingDecoder, channels_last
from .compat_forward import host_wan, original
from .compat_int8 import Int8Operations, int8_weights, keep_int8, knows_int8, knows_preferences, take_over

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
LATENT_CHANNELS, PIXELS = 16, 8  # of Wan's latents; pixels of one in width and height
Cancelled = management.InterruptProcessingException  # a BaseException from 0.20 on
WAN_WIDTH = 1536  # of the 1.3B model, the narrowest published

UMT5_EMBEDDING, UMT5_XXL_WIDTH = "shared.weight", 4096
COMFY_UMT5_KEY = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"  # T5 has it in layer 0 only

# Arguments that not every version has, and without which a node still does its work.
NEWER_ARGUMENTS = {
    "advanced",  # 0.10: a widget that is folded away
    "search_aliases",  # 0.11: other words by which a node is found
    "disable_dynamic",  # 0.12: all weights at once
    "has_intermediate_output",  # 0.19: reports outlive a reload of the page
}


def supported(function: Callable, **arguments):
    """Call with the arguments given, but for those of NEWER_ARGUMENTS that this version of ComfyUI does not know."""
    known = inspect.signature(function).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    unknown = set() if takes_all else NEWER_ARGUMENTS - set(known)
    return function(**{name: value for name, value in arguments.items() if name not in unknown})


def schema(**arguments) -> io.Schema:
    return supported(io.Schema, **arguments)


def widget(kind, name: str, **arguments) -> io.Input:
    """An input such as `widget(io.Int, "steps", default=4, advanced=True)`."""
    return supported(kind.Input, id=name, **arguments)


def seed_widget(name: str, **arguments) -> io.Input:
    """A seed that stays as it is after a run, so that queueing again goes on with the same film.

    Browsers of versions without that enumeration take True only, and begin at `randomize`: web/seed.js sets it there.
    """
    control = getattr(io, "ControlAfterGenerate", None)
    return widget(io.Int, name, control_after_generate=True if control is None else control.fixed, **arguments)


def refuse_removed(inputs: Mapping[str, object]) -> None:
    """Raise ValueError for connections to inputs that a node does not have; ComfyUI hands them over all the same."""
    if inputs:
        raise ValueError(
            f"this version of the node has no input {' and no input '.join(inputs)}: the workflow was "
            "saved by another version; remove the connection, or add the node anew"
        )


def refuse_missing(**inputs) -> None:
    """Raise ValueError for a MODEL, VAE or CLIP that is None: a loader found none in its file."""
    missing = [name for name, value in inputs.items() if value is None]
    if missing:
        raise ValueError(
            f"there is no {' and no '.join(missing)}: the loader that is connected found none in its "
            "file; connect another loader, such as Load LongLive"
        )


# --- loading ---------------------------------------------------------------------------------------------------------


HALVES = [torch.bfloat16, torch.float16, torch.float32]  # in the order in which the model holds best


def _weight_dtype(name: str) -> torch.dtype | None:
    """What weights are kept in. None: ComfyUI's own choice.

    ComfyUI prefers fp16, which Wan's large numbers hardly fit into: it is asked again with bf16 first, so that the
    user's flags count. It never picks bf16 on a CPU, where some are several times as fast in it.
    """
    if name != "auto":
        return DTYPES[name]
    if _on_cpu():
        return torch.bfloat16 if cpu_computes_bf16() else None
    return management.unet_dtype(device=management.get_torch_device(), supported_dtypes=HALVES)


def _computes_in(name: str, weights: torch.dtype | None) -> torch.dtype | None:
    """What the model is made to compute in where ComfyUI would not by itself; None: leave it to ComfyUI.

    It keeps bf16 weights on a CPU but computes in float32, and quantised ones compute in fp16 where that is possible.
    """
    asked = weights is torch.bfloat16 and (name == "auto" or _on_cpu())
    return weights if asked else None


def _on_cpu() -> bool:
    return management.is_device_cpu(management.get_torch_device())


def load_model(path: str, lora: str | None, dtype: str, weights_of: str = "auto", disable_dynamic: bool = False):
    """A file of any supported format as ComfyUI's own MODEL, with a LoRA merged in.

    weights_of: of a file with two sets of weights, see `WEIGHT_SETS`. `disable_dynamic` is how newer versions ask a
    loader to do its work again.
    """
    weights = load_state_dict(path, prefer_ema=WEIGHT_SETS[weights_of], preferences=knows_preferences())
    if lora is not None:
        weights = merge_lora(weights, load_lora(lora), path=lora)
    wanted = _weight_dtype(dtype)
    model = model_of_weights(weights, wanted, disable_dynamic)
    if model is None:
        raise CheckpointError(f"ComfyUI does not recognise {path} as a Wan 2.1 model; it needs heads of 128")
    computes = _computes_in(dtype, wanted)
    if computes is not None and computes is not _compute_dtype(model):
        model.set_model_compute_dtype(computes)
        keep_int8(model, weights)
    model.cached_patcher_init = (load_model, (path, lora, dtype, weights_of))
    return model


def model_of_weights(weights: dict[str, Tensor], dtype: torch.dtype | None, disable_dynamic: bool = False):
    """Wan weights as ComfyUI's own MODEL; None where it does not recognise them.

    INT8 layers are ComfyUI's own where it has some (0.27), else ours. Ours cannot follow dynamic VRAM, so it is
    switched off for this model; where that is impossible, this raises ValueError.
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
            "this version of ComfyUI moves weights in a way that INT8 layers cannot follow: start it with "
            "--disable-dynamic-vram, or update it to 0.27 or newer, which has INT8 layers of its own"
        )
    return model


def quantise_model(model):
    """A MODEL in INT8 with its LoRAs baked in, and its weights. The given MODEL stays as it is; see `compat_int8`."""
    weights = int8_weights(model)
    fresh = take_over(model_of_weights(weights, model.model.get_dtype()), model)
    keep_int8(fresh, weights)
    source = getattr(model, "cached_patcher_init", None)
    fresh.cached_patcher_init = source and (_quantised_again, (source, dict(model.patches)))
    return fresh, weights


def _quantised_again(source: tuple, patches: dict, disable_dynamic: bool = False):
    """See `load_model`. source: how its own loader makes the unquantised MODEL again."""
    load, arguments, *part = source
    model = load(*arguments)
    model = model[part[0]] if part else model
    model.patches = dict(patches)
    return model_of_weights(int8_weights(model), model.model.get_dtype(), disable_dynamic)


def load_vae(path: str, dtype: str):
    """A Wan 2.1 VAE as ComfyUI's own VAE."""
    vae = comfy.sd.VAE(sd=vae_tensors(read_file(path)[0], path), dtype=_vae_dtype(dtype))
    vae.throw_exception_if_invalid()
    vae.patcher.cached_patcher_init = (_vae_patcher, (path, dtype))
    return vae


def _vae_dtype(name: str) -> torch.dtype | None:
    """None: ComfyUI's own choice, which is bf16 before fp16 for Wan's VAE wherever there is a GPU."""
    return _weight_dtype(name) if name != "auto" or _on_cpu() else None


def _vae_patcher(path: str, dtype: str, disable_dynamic: bool = False):
    """The patcher alone, made again; ComfyUI itself decides for a VAE whether it is dynamic."""
    return load_vae(path, dtype).patcher


def load_clip(path: str, embeddings: Sequence[str]):
    """A umt5-xxl text encoder in ComfyUI's format as ComfyUI's own CLIP."""
    if len(files_of(path)) > 1:  # ComfyUI would load this one alone
        raise CheckpointError(f"{path} is one of several files; take umt5_xxl_fp16.safetensors, which is one")
    weights, _ = read_file(path)
    width = weights[UMT5_EMBEDDING].shape[1] if UMT5_EMBEDDING in weights else None
    if COMFY_UMT5_KEY not in weights or width != UMT5_XXL_WIDTH:
        kind = recognise(map(str, weights))
        raise CheckpointError(
            f"{path} is not a umt5-xxl text encoder in ComfyUI's format{f', but {kind.what}' if kind else ''}; take "
            "umt5_xxl_fp16.safetensors or umt5_xxl_fp8_e4m3fn_scaled.safetensors (Wan's own .pth works on the command "
            "line only)"
        )
    return comfy.sd.load_clip([path], embedding_directory=list(embeddings), clip_type=comfy.sd.CLIPType.WAN)


def make_clip(model_class: type, tokenizer_class: type, again: Callable, disable_dynamic: bool = False):
    """A CLIP around classes of ours that answer as ComfyUI's text encoders do. again(disable_dynamic) makes another."""
    target = SimpleNamespace(params={}, clip=model_class, tokenizer=tokenizer_class)
    clip = supported(comfy.sd.CLIP, target=target, disable_dynamic=disable_dynamic)
    clip.patcher.cached_patcher_init = (_clip_patcher, (again,))
    return clip


def _clip_patcher(again: Callable, disable_dynamic: bool = False):
    return again(disable_dynamic).patcher


# --- running ---------------------------------------------------------------------------------------------------------


def _compute_dtype(model) -> torch.dtype:
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()


def causal_model(model) -> CausalWan:
    """The causal forward over a MODEL's own module, which stays ComfyUI's to patch, cast and offload."""
    module = original(model.model.diffusion_model)
    config = ModelConfig.from_module(module)
    parts = {name for name, _ in module.named_children()}
    reason = unsuitable(parts, config.in_dim, config.dim, config.num_layers)
    if reason is not None:
        raise ValueError(f"the MODEL is {reason}. Load LongLive's with Load LongLive or Load Diffusion Model")
    # ComfyUI keeps the patch embedding in float32 and gives it float32, in every version; where its layers do not cast
    # (16 bits without offloading) nothing else is taken.
    return host_wan(model, config, device=model.load_device, dtype=_compute_dtype(model), patch_dtype=torch.float32)


def preset_of(model) -> str:
    """What a MODEL was made for, by the names of `PRESETS` and `SIZES`. The pocket model is known by its width: no Wan
    2.1 model is that narrow."""
    narrow = ModelConfig.from_module(model.model.diffusion_model).dim < WAN_WIDTH
    return "pocket" if narrow else "longlive-1.3b"


def streaming_decoder(vae) -> StreamingDecoder:
    """A decoder over a VAE's own module."""
    decoder = getattr(vae.first_stage_model, "decoder", None)
    parts = ("conv1", "middle", "upsamples", "head")
    if vae.latent_channels != LATENT_CHANNELS or not all(hasattr(decoder, part) for part in parts):
        raise ValueError("the VAE is not Wan 2.1's; connect the one of Load LongLive, or wan_2.1_vae.safetensors")
    if management.is_device_cpu(vae.device):  # where weights are never dynamic
        channels_last(vae.first_stage_model)
    return StreamingDecoder(vae.first_stage_model, dtype=vae.vae_dtype, device=vae.device)


def load_for_run(model, vae, reserve: int) -> None:
    """Bring MODEL and VAE to their device and have ComfyUI keep `reserve` bytes free: what is still to be allocated."""
    management.load_models_gpu([model, vae.patcher], memory_required=reserve)


def clip_beside(clip, reserve: int):
    """The CLIP to encode a prompt with while a film is made: on the CPU where it would push the MODEL out.

    reserve: bytes that the film will still allocate.
    """
    patcher = clip.patcher
    # Dynamic VRAM brings each weight for its use only, so nobody is pushed out for good.
    if management.is_device_cpu(patcher.load_device) or getattr(patcher, "is_dynamic", bool)():
        return clip
    missing = (patcher.model_size() - patcher.loaded_size()) * 1.1 + management.minimum_inference_memory()
    if missing + reserve <= management.get_free_memory(patcher.load_device):
        return clip
    twin = clip.clone()
    twin.patcher.load_device = torch.device("cpu")
    return twin


def load_vae_for_decoding(vae, size: tuple[int, int]) -> None:
    """Bring a VAE to its device for single frames of (width, height)."""
    need = vae.memory_used_decode((1, LATENT_CHANNELS, 1, size[1] // 8, size[0] // 8), vae.vae_dtype)
    management.load_models_gpu([vae.patcher], memory_required=need)


def memory_for_run(model) -> int | None:
    """Bytes that a run may take on the MODEL's device, with what ComfyUI can free by unloading; None: unknown."""
    device = model.load_device
    if device.type == "cpu":
        return free_memory(device)
    if device.type == "mps":
        return None
    loaded = [entry for entry in management.current_loaded_models if entry.device == device and entry.model is not None]
    kept_free = management.extra_reserved_memory()  # for other programs, as the user's flags say
    return management.get_free_memory(device) + sum(entry.model_loaded_memory() for entry in loaded) - kept_free


def metadata_wanted() -> bool:
    """Whether files that are written may say how they were made (ComfyUI's flag --disable-metadata)."""
    return not cli_args.args.disable_metadata


def check_cancelled() -> None:
    management.throw_exception_if_processing_interrupted()


def cancellable():
    """For a node's `execute`: while it runs, the core asks ComfyUI whether the user cancelled."""
    return cancelled_by(check_cancelled)


def encode_clip(vae, image: Tensor, size: tuple[int, int], chunk: int) -> Tensor:
    """Pictures [T, H, W, 3] -> normalised latents of whole chunks, scaled, cropped in the middle to (width, height)."""
    sized = comfy.utils.common_upscale(image.movedim(-1, 1), *size, "bicubic", "center").movedim(1, -1)
    reserve = vae.memory_used_encode((1, 3, 1, size[1], size[0]), vae.vae_dtype)
    management.load_models_gpu([vae.patcher], memory_required=reserve)
    return clip_latents(vae.first_stage_model, sized.float().clamp(0, 1), chunk, vae.device, vae.vae_dtype)


def normalised(samples: Tensor) -> Tensor:
    """A LATENT's samples [B, 16, T, h, w] -> the latents the model sees."""
    return comfy.latent_formats.Wan21().process_in(samples.float())


def latent_size(latent: dict) -> tuple[int, int]:
    """(width, height) in pixels of a film that begins with a LATENT."""
    height, width = latent["samples"].shape[-2:]
    return width * PIXELS, height * PIXELS


def as_latent(latents: Tensor) -> dict:
    """The latents the model sees -> LATENT."""
    return {"samples": comfy.latent_formats.Wan21().process_out(latents)}


def release_memory() -> None:
    management.soft_empty_cache()
