"""The table of key names: how other programs name the parts of Wan's transformer, and Wan 2.1's own names for them.

A key is split into prefixes that programs put before it (`PREFIXES`) and the module (`BLOCK_MODULES`, `OUTER_MODULES`).
To support a new naming, add its prefix or its names here. Programs that write a LoRA's layers with underscores (kohya,
lycoris) are read by the same table: dots and underscores count as equal. This is unambiguous because Wan has few
modules, whose names stay distinct that way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# Inserted anywhere in a key by training wrappers (the reference strips the same three when it collects its parameters).
WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")

# Before a module's name; removed one after another until none is left. Those that end in an underscore belong to names
# without dots.
PREFIXES = (
    "base_model.model.",  # PEFT
    "pipe.dit.",
    "dit.",  # DiffSynth
    "diffusion_model.",  # ComfyUI, diffusion-pipe, AI-Toolkit, Wan2GP
    "transformer.",  # diffusers, finetrainers, SimpleTuner
    "generator.",
    "student.",
    "model.",
    "module.",
    "net.",
    "wan.",
    "_forward_module.",  # wrappers of training code
    "unet.",
    "lora_unet.",
    "lycoris.",
    "lora_unet__",  # VideoX-Fun
    "lora_unet_",  # kohya, musubi-tuner
    "lora_transformer_",  # OneTrainer
    "lycoris_",  # lycoris, SimpleTuner
)

_ATTENTION = {
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "o",
    "to_out": "o",
    "norm_q": "norm_q",
    "norm_k": "norm_k",
}

# Wan's module of a block <- other programs' names for it.
BLOCK_MODULES = {
    "ffn.0": ("ffn.net.0.proj",),
    "ffn.2": ("ffn.net.2",),
    "norm3": ("norm2",),  # the only norm of a block with weights, in both
    "modulation": ("scale_shift_table",),
    **{f"self_attn.{ours}": () for ours in ("q", "k", "v", "o", "norm_q", "norm_k")},
    **{f"cross_attn.{ours}": () for ours in ("q", "k", "v", "o", "norm_q", "norm_k")},
}
for _theirs, _ours in _ATTENTION.items():
    BLOCK_MODULES[f"self_attn.{_ours}"] += (f"attn1.{_theirs}",)
    BLOCK_MODULES[f"cross_attn.{_ours}"] += (f"attn2.{_theirs}",)

# The same for modules outside of the blocks.
OUTER_MODULES = {
    "patch_embedding": (),
    "text_embedding.0": ("condition_embedder.text_embedder.linear_1",),
    "text_embedding.2": ("condition_embedder.text_embedder.linear_2",),
    "time_embedding.0": ("condition_embedder.time_embedder.linear_1",),
    "time_embedding.2": ("condition_embedder.time_embedder.linear_2",),
    "time_projection.1": ("condition_embedder.time_proj",),
    "head.head": ("proj_out",),
    "head.modulation": ("scale_shift_table",),
}

DIFFUSERS = "condition_embedder.time_embedder.linear_1.weight"  # in every Wan model with diffusers' names


def underscored(name: str) -> str:
    """Return a name with dots and underscores as single underscores."""
    return re.sub(r"[._]+", "_", name).strip("_")


_BLOCK = {underscored(spelling): ours for ours, others in BLOCK_MODULES.items() for spelling in (ours, *others)}
_OUTSIDE = {underscored(spelling): ours for ours, others in OUTER_MODULES.items() for spelling in (ours, *others)}
_IN_BLOCK = re.compile(r"blocks_(\d+)_(.+)")


def strip_wrappers(name: str) -> str:
    """Remove from a key what training wrappers inserted."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def strip_prefixes(name: str) -> str:
    """Remove wrappers and prefixes from a key; the module's part is not changed."""
    name = strip_wrappers(name.replace("$$", ".")).replace("_orig_mod_", "")  # $$: dots of AI-Toolkit's
    while (prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)) is not None:
        name = name.removeprefix(prefix)
    return name


def wan_module(name: str) -> str | None:
    """Return Wan 2.1's own name of a module or modulation (`blocks.0.self_attn.q`), or None if it is not Wan's."""
    spelled = underscored(strip_prefixes(name).replace("processor.", ""))
    if found := _IN_BLOCK.fullmatch(spelled):
        part = _BLOCK.get(found[2])
        return part and f"blocks.{found[1]}.{part}"
    return _OUTSIDE.get(spelled)


def is_parameter(module: str) -> bool:
    """Return whether a name from `wan_module` is itself a parameter, without `.weight` after it."""
    return module.endswith("modulation")


def from_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a model's tensors from diffusers' to Wan's names; others are not changed. Unknown keys stay."""
    anchor = next((name for name in tensors if name == DIFFUSERS or name.endswith(f".{DIFFUSERS}")), None)
    if anchor is None:
        return dict(tensors)
    renamed = {}
    for name, tensor in tensors.items():
        module, dot, leaf = name.rpartition(".")
        whole = wan_module(name)
        if whole is not None and is_parameter(whole):
            renamed[whole] = tensor
        else:
            ours = wan_module(module) if dot else None
            renamed[name.removeprefix(anchor.removesuffix(DIFFUSERS)) if ours is None else f"{ours}.{leaf}"] = tensor
    return renamed
