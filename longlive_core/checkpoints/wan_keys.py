"""Bring a diffusion model's tensors under Wan 2.1's own keys: find and remove prefixes, refuse other models by name.

Inside the core a diffusion model's weights always have the names of Wan 2.1's own module, without a prefix
(`blocks.0.self_attn.q.weight`). `docs/checkpoints.md` shows all layouts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..quant import canonical, int8_layers
from .attention_settings import ATTENTION_SETTING
from .errors import CheckpointError, sample
from .key_table import from_diffusers, strip_wrappers, wan_module
from .model_kinds import LATENT_CHANNELS, recognise, unsuitable

# Prefixes of a diffusion model's keys, in any order: attributes of wrappers, ComfyUI's and DiffSynth's.
PREFIX_PARTS = {
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

# Other parts of a bundled ComfyUI checkpoint, which are ignored.
BUNDLED = ("first_stage_model.", "vae.", "cond_stage_model.", "text_encoders.", "clip_vision.", "conditioner.")

# Key endings that only quantised files have.
QUANTISED = (
    ".scale_weight",
    ".weight_scale",
    ".weight_scale_2",
    ".comfy_quant",
    ".scale_input",
    ".input_scale",
    "scaled_fp8",
)

# Without these even the model's size cannot be read.
ESSENTIAL = (
    "patch_embedding.weight",
    "text_embedding.0.weight",
    "time_embedding.0.weight",
    "blocks.0.ffn.0.weight",
    "head.head.weight",
    "head.modulation",
)

ONE_OF_SEVERAL = (
    "If it is one of several files, restore their names (...-00001-of-00002.safetensors); otherwise download it again"
)

LOADABLE = "LongLive loads longlive_base.pt, Self-Forcing's .pt, or Wan 2.1 T2V 1.3B weights as safetensors"


def to_wan_keys(tensors: Mapping[str, Tensor], path, any_width: bool = False) -> dict[str, Tensor]:
    """Return a file's tensors under Wan's own keys, without prefix and wrappers; INT8 layers as in `quant.canonical`.

    any_width: accept a 14B model too.

    Raises CheckpointError if the file is something else (named, if known), is quantised in another format than
    `int8_tensorwise`, belongs to a Wan model that LongLive cannot run, or has integer weights.
    """
    tensors = _check_quantised(
        from_diffusers({strip_wrappers(str(name)): tensor for name, tensor in tensors.items()}), path
    )
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
    require_floating_point(
        {
            name: tensor
            for name, tensor in renamed.items()
            if name not in quantised and not name.endswith((".comfy_quant", ATTENTION_SETTING))
        },
        path,
    )
    return renamed


_ANCHOR = "head.modulation"


def _prefix(tensors: Mapping[str, Tensor], path) -> str | None:
    """Return the prefix of Wan's keys, composed of PREFIX_PARTS; None if there are no such keys."""
    found = sorted(
        prefix for name in tensors if name.endswith(_ANCHOR) and _is_prefix(prefix := name.removesuffix(_ANCHOR))
    )
    if len(found) > 1:
        shown = ", ".join(prefix or "without a prefix" for prefix in found)
        raise CheckpointError(
            f"{path} holds {len(found)} diffusion models under different prefixes ({shown}): save "
            "the one you want by itself"
        )
    return found[0] if found else None


def _is_prefix(prefix: str) -> bool:
    *parts, last = prefix.split(".")
    return not last and PREFIX_PARTS.issuperset(parts)


def require_floating_point(tensors: Mapping[str, Tensor], path) -> None:
    """Raise CheckpointError if weights are integers, which are valid only in INT8 layers with scales."""
    whole = [
        f"{name} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
        if not tensor.is_floating_point()
    ]
    if whole:
        raise CheckpointError(
            f"{path} has weights that are not of a floating-point type: {sample(whole)}. It was "
            "damaged by a conversion: use the original file"
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
            f"{path} is incomplete: it lacks {sample(missing)}, so even its size is unknown. {ONE_OF_SEVERAL}"
        )
