"""Run a MODEL and a VAE: our forwards over their modules, memory, cancelling."""

from __future__ import annotations

import comfy.cli_args as cli_args
import comfy.model_management as management
import torch

from ...longlive_core.cancelling import cancelled_by
from ...longlive_core.checkpoints import unsuitable
from ...longlive_core.config import ModelConfig
from ...longlive_core.model import CausalWan
from ...longlive_core.run.memory import free_memory
from ...longlive_core.vae import StreamingDecoder, channels_last
from .forward import compute_dtype, host_wan, original
from .latents import LATENT_CHANNELS

Cancelled = management.InterruptProcessingException  # a BaseException from 0.20 on
WAN_WIDTH = 1536  # of the 1.3B model, the narrowest published


def causal_model(model) -> CausalWan:
    """Return the causal forward over a MODEL's own module; ComfyUI still patches, casts and offloads that module."""
    module = original(model.model.diffusion_model)
    config = ModelConfig.from_module(module)
    parts = {name for name, _ in module.named_children()}
    reason = unsuitable(parts, config.in_dim, config.dim, config.num_layers)
    if reason is not None:
        raise ValueError(f"the MODEL is {reason}. Load LongLive's with Load LongLive or Load Diffusion Model")
    # Every version of ComfyUI keeps the patch embedding in float32 and passes it float32. Where its layers do not cast
    # (16 bits without offloading), they accept nothing else.
    return host_wan(model, config, device=model.load_device, dtype=compute_dtype(model), patch_dtype=torch.float32)


def preset_of(model) -> str:
    """Return the preset of a MODEL, a name in `PRESETS` and `SIZES`. The pocket model is recognised by its width: no
    Wan 2.1 model is as narrow."""
    narrow = ModelConfig.from_module(model.model.diffusion_model).dim < WAN_WIDTH
    return "pocket" if narrow else "longlive-1.3b"


def streaming_decoder(vae) -> StreamingDecoder:
    """Return a streaming decoder over a VAE's own module."""
    decoder = getattr(vae.first_stage_model, "decoder", None)
    parts = ("conv1", "middle", "upsamples", "head")
    if vae.latent_channels != LATENT_CHANNELS or not all(hasattr(decoder, part) for part in parts):
        raise ValueError("the VAE is not Wan 2.1's; connect the VAE of Load LongLive, or wan_2.1_vae.safetensors")
    if management.is_device_cpu(vae.device):  # on a CPU, weights are never dynamic
        channels_last(vae.first_stage_model)
    return StreamingDecoder(vae.first_stage_model, dtype=vae.vae_dtype, device=vae.device)


def load_for_run(model, vae, reserve: int) -> None:
    """Load MODEL and VAE to their device, and keep `reserve` bytes free for what is still to be allocated."""
    management.load_models_gpu([model, vae.patcher], memory_required=reserve)


def clip_beside(clip, reserve: int):
    """Return the CLIP for encoding a prompt during a render: on the CPU if it would push the MODEL out of memory.

    reserve: bytes that the film will still allocate.
    """
    patcher = clip.patcher
    # Dynamic VRAM loads each weight only for its use, so nothing is pushed out permanently.
    if management.is_device_cpu(patcher.load_device) or getattr(patcher, "is_dynamic", bool)():
        return clip
    missing = (patcher.model_size() - patcher.loaded_size()) * 1.1 + management.minimum_inference_memory()
    if missing + reserve <= management.get_free_memory(patcher.load_device):
        return clip
    twin = clip.clone()
    twin.patcher.load_device = torch.device("cpu")
    return twin


def load_vae_for_decoding(vae, size: tuple[int, int]) -> None:
    """Load a VAE to its device, for decoding single frames of (width, height)."""
    need = vae.memory_used_decode((1, LATENT_CHANNELS, 1, size[1] // 8, size[0] // 8), vae.vae_dtype)
    management.load_models_gpu([vae.patcher], memory_required=need)


def memory_for_run(model) -> int | None:
    """Return the bytes a run may use on the MODEL's device, including what ComfyUI can unload; None: unknown."""
    device = model.load_device
    if device.type == "cpu":
        return free_memory(device)
    if device.type == "mps":
        return None
    loaded = [entry for entry in management.current_loaded_models if entry.device == device and entry.model is not None]
    kept_free = management.extra_reserved_memory()  # for other programs, set by the user's flags
    return management.get_free_memory(device) + sum(entry.model_loaded_memory() for entry in loaded) - kept_free


def metadata_wanted() -> bool:
    """Return whether written files may contain metadata (ComfyUI's flag --disable-metadata)."""
    return not cli_args.args.disable_metadata


def check_cancelled() -> None:
    management.throw_exception_if_processing_interrupted()


def cancellable():
    """Decorate a node's `execute`: while it runs, the core checks whether the user cancelled."""
    return cancelled_by(check_cancelled)


def release_memory() -> None:
    management.soft_empty_cache()
