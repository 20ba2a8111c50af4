"""What a file of weights is, from its names: a Wan model behind some prefix, or something else, which is named.

Inside the core a diffusion model's weights always have the names of Wan 2.1's own module, without a prefix
(`blocks.0.self_attn.q.weight`). `docs/checkpoints.md` shows the table for people.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

from ..quant import canonical, int8_layers
from .errors import CheckpointError, sample
from .modules import from_diffusers, unwrap, wan_module
from .preferences import PREFERENCE

# What may stand before a diffusion model's names, in any order: attributes of wrappers, ComfyUI's and DiffSynth's.
CONTAINERS = {
    "model",
    "module",
    "net",
    "network",
    "diffusion_model",
    "dit",
    "pipe",
    "transformer",
    "generator",
    "generator_ema",
    "student",
    "state_dict",
    "base_model",
    "wan",
    "_forward_module",
    "ema",
    "ema_model",
}

# Other parts of a bundled ComfyUI checkpoint: not the diffusion model, left aside.
BUNDLED = ("first_stage_model.", "vae.", "cond_stage_model.", "text_encoders.", "clip_vision.", "conditioner.")

# Entries that only quantised files have.
QUANTISED = (
    ".scale_weight",
    ".weight_scale",
    ".weight_scale_2",
    ".comfy_quant",
    ".scale_input",
    ".input_scale",
    "scaled_fp8",
)


class Kind(NamedTuple):
    """A kind of file: `what` it is and where it belongs, and the parts of names of which one gives it away."""

    name: str
    what: str
    markers: tuple[str, ...]


# First match wins, so narrow kinds stand before wide ones.
KINDS = (
    Kind(
        "lora",
        "a LoRA; it belongs in models/loras and is given as `lora`, beside a diffusion model",
        (".lora_A", ".lora_B", ".lora_down.", ".lora_up.", "lora.down.", "lora.up.", ".lokr_w", ".hada_w", ".diff_b"),
    ),
    Kind(
        "wan22_vae",
        "the VAE of Wan 2.2 (48 channels); LongLive needs Wan 2.1's (wan_2.1_vae.safetensors)",
        ("decoder.upsamples.0.upsamples.0.",),
    ),
    Kind(
        "vae", "Wan 2.1's VAE; it belongs in models/vae and is given as `vae`", ("decoder.middle.0.residual.0.gamma",)
    ),
    Kind(
        "umt5",
        "a text encoder (UMT5, Wan's names); it belongs in models/text_encoders and is given as `text_encoder`",
        ("blocks.0.attn.q.weight",),
    ),
    Kind(
        "t5",
        "a text encoder (T5/UMT5); it belongs in models/text_encoders and is given as `text_encoder`",
        ("encoder.block.0.layer.0.SelfAttention.q.weight",),
    ),
    Kind(
        "sd",
        "a Stable Diffusion model (SD/SDXL), not Wan 2.1",
        ("input_blocks.0.0.weight", "down_blocks.0.attentions.0."),
    ),
    Kind("mmdit", "an SD3, Flux or HunyuanVideo model, not Wan 2.1", ("double_blocks.0.", "joint_blocks.0.")),
    Kind(
        "image_vae",
        "an image VAE, not one of Wan 2.1",
        ("decoder.conv_in.weight", "decoder.mid.block_1.", "decoder.mid_block."),
    ),
    Kind(
        "clip",
        "a CLIP model, not one of Wan 2.1",
        ("text_model.encoder.layers.0.", "vision_model.encoder.layers.0.", "visual.transformer."),
    ),
)

# Members of the Wan family that are not the text-to-video model LongLive is made of: a part (the first word of its
# weights' names, and the attribute of a live module) that only they have.
RELATIVES = (
    ("vace_patch_embedding", "Wan VACE"),
    ("vace_blocks", "Wan VACE"),
    ("control_adapter", "Wan Fun Camera"),
    ("casual_audio_encoder", "Wan S2V"),
    ("audio_proj", "HuMo"),
    ("face_adapter", "Wan Animate"),
    ("img_emb", "Wan image-to-video (I2V)"),
)
# The same by latent channels of the input.
CHANNELS = {
    36: "Wan image-to-video (I2V, 36 input channels)",
    48: "Wan 2.2 5B (48 input channels; LongLive 2.0 is made of it)",
}
LATENT_CHANNELS = 16
WAN_14B_WIDTH = 5120

# Without these not even the model's size can be read.
ESSENTIAL = (
    "patch_embedding.weight",
    "text_embedding.0.weight",
    "time_embedding.0.weight",
    "blocks.0.ffn.0.weight",
    "head.head.weight",
    "head.modulation",
)

ONE_OF_SEVERAL = (
    "If it is one of several files, give them back their names (...-00001-of-00002.safetensors); else download it again"
)
LOADABLE = "LongLive loads longlive_base.pt, Self-Forcing's .pt, or Wan 2.1 T2V 1.3B weights as safetensors"


def recognise(names: Iterable[str]) -> Kind | None:
    """What else a file is, from its names; None where no kind fits (or it is a Wan diffusion model)."""
    names = list(names)
    return next((kind for kind in KINDS if any(marker in name for name in names for marker in kind.markers)), None)


def wan_names(tensors: Mapping[str, Tensor], path, any_width: bool = False) -> dict[str, Tensor]:
    """A file's tensors under Wan's own names, without prefix and wrappers; INT8 layers as `quant.canonical` has them.

    any_width: take a 14B model too.

    Raises CheckpointError where the file is something else (named, where it is known), is quantised in another way
    than `int8_tensorwise`, belongs to a Wan model that LongLive does not run on, or has weights that are no fractions.
    """
    tensors = _check_quantised(from_diffusers({unwrap(str(name)): tensor for name, tensor in tensors.items()}), path)
    prefix = _prefix(tensors, path)
    kind = recognise(tensors) if prefix is None else None
    if kind is not None:
        raise CheckpointError(f"{path} is no diffusion model: it is {kind.what}. {LOADABLE}")
    if prefix is None and any(wan_module(name.rpartition(".")[0]) for name in tensors):
        raise CheckpointError(
            f"{path} is a part of a Wan model: it holds {sample(tensors)}, but no `head.modulation`. {ONE_OF_SEVERAL}"
        )
    if prefix is None:
        raise CheckpointError(
            f"{path} is no diffusion model of the Wan family: none of its names is `head.modulation`; it holds "
            f"{sample(tensors)}. {LOADABLE}"
        )
    renamed = {
        n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix) or not n.startswith(BUNDLED)
    }
    _require_t2v(renamed, path, any_width)
    quantised = {f"{layer}.weight" for layer in int8_layers(renamed)}
    require_fractions(
        {
            name: tensor
            for name, tensor in renamed.items()
            if name not in quantised and not name.endswith((".comfy_quant", PREFERENCE))
        },
        path,
    )
    return renamed


_ANCHOR = "head.modulation"


def _prefix(tensors: Mapping[str, Tensor], path) -> str | None:
    """What stands before Wan's names, made of CONTAINERS; None where there are no such names."""
    found = sorted(
        prefix for name in tensors if name.endswith(_ANCHOR) and _is_container(prefix := name.removesuffix(_ANCHOR))
    )
    if len(found) > 1:
        shown = ", ".join(prefix or "without a prefix" for prefix in found)
        raise CheckpointError(
            f"{path} holds {len(found)} diffusion models under different prefixes ({shown}): save "
            "the one you want by itself"
        )
    return found[0] if found else None


def _is_container(prefix: str) -> bool:
    *parts, last = prefix.split(".")
    return not last and CONTAINERS.issuperset(parts)


def require_fractions(tensors: Mapping[str, Tensor], path) -> None:
    """Raise CheckpointError where weights are integers: those mean something only where INT8 layers have scales."""
    whole = [
        f"{name} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
        if not tensor.is_floating_point()
    ]
    if whole:
        raise CheckpointError(
            f"{path} has weights that are not of a floating-point type: {sample(whole)}. It was "
            "damaged when it was converted: take the original file"
        )


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


def _require_t2v(tensors: Mapping[str, Tensor], path, any_width: bool) -> None:
    parts = {name.partition(".")[0] for name in tensors}
    width, channels = 0, LATENT_CHANNELS
    if "patch_embedding.weight" in tensors:
        width, channels = tensors["patch_embedding.weight"].shape[:2]
    layers = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
    reason = unsuitable(parts, channels, 0 if any_width else width, layers)
    if reason is not None:
        raise CheckpointError(f"{path} is {reason}. {LOADABLE}")
    missing = [name for name in ESSENTIAL if name not in tensors]
    if missing:
        raise CheckpointError(
            f"{path} is incomplete: it lacks {sample(missing)}, so not even its size is known. {ONE_OF_SEVERAL}"
        )


def unsuitable(parts: Collection[str], channels: int, width: int, layers: int) -> str | None:
    """What a model of the Wan family is, if LongLive does not run on it, and why; None where it does.

    The causal forward would run on any width, but LongLive's weights, LoRA and training exist for the 1.3B model
    alone, plain 14B weights were not trained to film chunk by chunk, and no causal 14B model was ever tried here. So
    14B is refused, but as a teacher or critic in training, which see whole clips.

    Args:
        parts: names of the model's top-level modules.
        channels: latent channels of the input. width, layers: of the transformer.
    """
    relative = next((what for part, what in RELATIVES if part in parts), None)
    if relative is not None:
        return f"{relative}, which LongLive does not run on"
    if channels != LATENT_CHANNELS:
        what = CHANNELS.get(channels, f"a Wan model of {channels} input channels")
        return f"{what}; LongLive takes {LATENT_CHANNELS}"
    if width == WAN_14B_WIDTH:
        return (
            f"Wan 14B (width {width}, {layers} layers); LongLive's weights and LoRA are for the 1.3B model (width "
            "1536, 30 layers), and nothing here was ever tried with 14B"
        )
    return None
