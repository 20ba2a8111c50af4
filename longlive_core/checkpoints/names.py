"""The one table of names: which prefixes files put before Wan's names, and what the file is if it is something else.

Inside the core a diffusion model's weights always have the names of Wan 2.1's own module, without a prefix
(`blocks.0.self_attn.q.weight`). `docs/checkpoints.md` shows the table for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from ..quant import canonical, int8_layers
from .files import CheckpointError, sample

# Put anywhere into a name by training wrappers (the reference strips the same three when it collects its parameters).
WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")

# Before a diffusion model's names, tried in this order.
MODEL_PREFIXES = (
    "",  # Wan 2.1 as published; UNETLoader files
    "model.",  # LongLive's and Self-Forcing's `generator`: the wrapper's attribute
    "model.diffusion_model.",  # ComfyUI's save nodes
    "diffusion_model.",
)

# Before a LoRA's layer names, longest first.
LORA_PREFIXES = (
    "base_model.model.model.",  # PEFT around the wrapper
    "base_model.model.",  # PEFT around Wan's module: LongLive's lora.pt
    "model.diffusion_model.",
    "diffusion_model.",  # ComfyUI
    "model.",
)

# Other parts of a bundled ComfyUI checkpoint: not the diffusion model, left aside.
BUNDLED = ("first_stage_model.", "vae.", "cond_stage_model.", "text_encoders.", "clip_vision.", "conditioner.")

# Entries that only quantised files have.
QUANTISED = (".scale_weight", ".weight_scale", ".weight_scale_2", ".comfy_quant", ".scale_input", ".input_scale",
             "scaled_fp8")  # fmt: skip


class Kind(NamedTuple):
    """A kind of file: `what` it is and where it belongs, and the parts of names of which one gives it away."""

    name: str
    what: str
    markers: tuple[str, ...]


# First match wins, so narrow kinds stand before wide ones.
KINDS = (
    Kind("lora", "a LoRA; it belongs in models/loras and is given as `lora`, beside a diffusion model",
         (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.", ".lokr_w1", ".hada_w1")),
    Kind("wan22_vae", "the VAE of Wan 2.2 (48 channels); LongLive needs Wan 2.1's (wan_2.1_vae.safetensors)",
         ("decoder.upsamples.0.upsamples.0.",)),
    Kind("vae", "Wan 2.1's VAE; it belongs in models/vae and is given as `vae`",
         ("decoder.middle.0.residual.0.gamma",)),
    Kind("umt5", "a text encoder (UMT5, Wan's names); it belongs in models/text_encoders and is given as "
         "`text_encoder`", ("blocks.0.attn.q.weight",)),
    Kind("t5", "a text encoder (T5/UMT5); it belongs in models/text_encoders and is given as `text_encoder`",
         ("encoder.block.0.layer.0.SelfAttention.q.weight",)),
    Kind("sd", "a Stable Diffusion model (SD/SDXL), not Wan 2.1",
         ("input_blocks.0.0.weight", "down_blocks.0.attentions.0.")),
    Kind("diffusers_wan", "Wan in diffusers' naming; use the original safetensors file or ComfyUI's",
         ("condition_embedder.time_embedder.",)),
    Kind("mmdit", "an SD3, Flux or HunyuanVideo model, not Wan 2.1", ("double_blocks.0.", "joint_blocks.0.")),
    Kind("image_vae", "an image VAE, not one of Wan 2.1",
         ("decoder.conv_in.weight", "decoder.mid.block_1.", "decoder.mid_block.")),
    Kind("clip", "a CLIP model, not one of Wan 2.1",
         ("text_model.encoder.layers.0.", "vision_model.encoder.layers.0.", "visual.transformer.")),
)  # fmt: skip

# Members of the Wan family that are not the text-to-video model LongLive is made of: a name only they have.
RELATIVES = (
    ("vace_patch_embedding.weight", "Wan VACE"),
    ("control_adapter.conv.weight", "Wan Fun Camera"),
    ("casual_audio_encoder.encoder.final_linear.weight", "Wan S2V"),
    ("audio_proj.audio_proj_glob_1.layer.bias", "HuMo"),
    ("face_adapter.fuser_blocks.0.k_norm.weight", "Wan Animate"),
    ("img_emb.proj.0.weight", "Wan image-to-video (I2V)"),
    ("img_emb.proj.0.bias", "Wan image-to-video (I2V)"),
)

# Without these not even the model's size can be read.
ESSENTIAL = ("patch_embedding.weight", "text_embedding.0.weight", "time_embedding.0.weight", "blocks.0.ffn.0.weight",
             "head.head.weight", "head.modulation")  # fmt: skip

LOADABLE = "LongLive loads longlive_base.pt, Self-Forcing's .pt, or Wan 2.1 T2V 1.3B weights as safetensors"


def unwrap(name: str) -> str:
    """A name without what training wrappers put into it."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def recognise(names: Iterable[str]) -> Kind | None:
    """What else a file is, from its names; None where no kind fits (or it is a Wan diffusion model)."""
    names = list(names)
    return next((kind for kind in KINDS if any(marker in name for name in names for marker in kind.markers)), None)


def wan_names(tensors: Mapping[str, Tensor], path) -> dict[str, Tensor]:
    """A file's tensors under Wan's own names, without prefix and wrappers; INT8 layers as `quant.canonical` has them.

    Raises CheckpointError where the file is something else (named, where it is known), is quantised in another way
    than `int8_tensorwise`, or belongs to a Wan model that LongLive does not run on.
    """
    tensors = _check_quantised({unwrap(name): tensor for name, tensor in tensors.items()}, path)
    prefix = next((p for p in MODEL_PREFIXES if f"{p}head.modulation" in tensors), None)
    kind = recognise(tensors) if prefix is None else None
    if kind is not None:
        raise CheckpointError(f"{path} is no diffusion model: it is {kind.what}. {LOADABLE}")
    if prefix is None:
        raise CheckpointError(
            f"{path} is no diffusion model of the Wan family: none of its names is `head.modulation`; it holds "
            f"{sample(tensors)}. {LOADABLE}"
        )
    renamed = {
        n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix) or not n.startswith(BUNDLED)
    }
    _require_t2v(renamed, path)
    return renamed


def _check_quantised(tensors: dict[str, Tensor], path) -> dict[str, Tensor]:
    known = {f"{layer}.{part}" for layer in int8_layers(tensors) for part in ("weight_scale", "comfy_quant")}
    others = [name for name in tensors if name.endswith(QUANTISED) and name not in known]
    try:
        if others:
            raise ValueError(f"it holds {sample(others)} scales")
        return canonical(tensors)
    except ValueError as error:
        raise CheckpointError(
            f"{path} is quantised, and not in the INT8 that LongLive reads: {error}. Load it with ComfyUI's own "
            "loader, or give the bf16 or fp16 file"
        ) from error


def _require_t2v(tensors: Mapping[str, Tensor], path) -> None:
    relative = next((what for name, what in RELATIVES if name in tensors), None)
    if relative is not None:
        raise CheckpointError(f"{path} is {relative}, which LongLive does not run on. {LOADABLE}")
    missing = [name for name in ESSENTIAL if name not in tensors]
    if missing:
        raise CheckpointError(f"{path} is incomplete: it lacks {sample(missing)}, so not even its size is known")
    width, channels = tensors["patch_embedding.weight"].shape[:2]
    if channels == 36:
        raise CheckpointError(f"{path} is Wan image-to-video (I2V, 36 input channels); LongLive takes 16. {LOADABLE}")
    if channels == 48:
        raise CheckpointError(f"{path} is Wan 2.2 5B (48 input channels); LongLive takes 16. {LOADABLE}")
    if channels != 16:
        raise CheckpointError(f"{path} has {channels} input channels; LongLive takes 16. {LOADABLE}")
    if width == 5120:
        raise CheckpointError(f"{path} is Wan 14B (width 5120); LongLive is made of the 1.3B model (1536). {LOADABLE}")
