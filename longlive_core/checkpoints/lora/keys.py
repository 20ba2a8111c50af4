"""Parse the keys of LoRA files from any trainer: which module a key changes, and its role in the change.

Modules are found with the table in `key_table.py`; the endings are here. Entries that cannot be merged are named, with
advice: whether ComfyUI's own LoRA loader nodes read an entry is recorded here too, and a test compares it with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import sample
from ..key_table import is_parameter, underscored, wan_module

# <layer>.lora_A[.ADAPTER].weight and its spellings; `lora.down` and `_lora.down` are older diffusers'.
_PAIR = re.compile(
    r"(?P<layer>.+?)[._]lora(?:_linear_layer)?[._](?P<side>A|B|down|up)"
    r"(?:\.(?P<adapter>(?!(?:weight|bias)$)[^.]+))?(?:\.weight)?"
)

_SIDES = {"A": "down", "down": "down", "B": "up", "up": "up"}
_OTHER = re.compile(r"(?P<layer>.+)\.(?P<ending>alpha|diff|diff_b|w_norm|b_norm|hada_w[12]_[ab]|lokr_w[12](?:_[ab])?)")

# Differences of a weight and of a bias; w_norm and b_norm are lycoris' names of them.
_ROLES = {"diff": "diff", "w_norm": "diff", "diff_b": "diff", "b_norm": "diff"}
_OF_BIAS = {"diff_b", "b_norm"}

# Endings that are known but not merged -> what they are.
UNMERGED = (
    ("dora_scale", "DoRA"),
    ("lora_magnitude_vector", "DoRA"),
    ("lora_mid", "a convolution's core (LoCon)"),
    ("hada_t", "a convolution's core (LoHa)"),
    ("lokr_t", "a convolution's core (LoKr)"),
    ("set_weight", "a weight to be replaced"),
    ("reshape_weight", "a weight of another shape"),
    (r"\b[ab][12]\.weight", "GLoRA"),
    ("oft_|boft_|rescale", "OFT"),
    ("base_layer", "the weights of the model itself"),
    ("modules_to_save", "whole layers beside the LoRA"),
    (r"lora_B\..*bias|lora_up\.bias", "a bias beside the LoRA"),
    (r"ia3_", "IA3"),
    (r"vera_", "VeRA"),
    (r"hra_|\.scalar$", "another kind of lycoris"),
)

# Patterns in a layer's name -> the model it belongs to.
FOREIGN = (
    (
        r"^lora_te\d*_|^lora_prior_te_|text_encoder|text_model|^te\d*[._]|^clip[._]|t5xxl",
        "a text encoder, which LongLive's LoRAs do not change",
    ),
    (r"(?:^|[._])transformer_2\.|dit2\.", "the second model of Wan 2.2"),
    (r"vace_", "Wan VACE"),
    (r"[._]k_img|[._]v_img|img_emb|add_[kv]_proj|image_embedder", "Wan image-to-video (I2V)"),
    (r"audio_|face_adapter|control_adapter", "another model of the Wan family"),
    (r"(?:double|single)_(?:transformer_)?blocks", "Flux, SD3 or HunyuanVideo"),
    (r"transformer_blocks[._]\d+[._]attn\b|transformer_blocks_\d+_attn_", "Flux, SD3 or Qwen-Image"),
    (r"joint_blocks", "SD3"),
    (r"down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block", "Stable Diffusion (SD or SDXL)"),
    (r"transformer_blocks", "another video model, such as LTX-Video or CogVideoX"),
)

# How ComfyUI's loader finds a weight: by these two names of its module, and these endings. It finds cores of
# convolutions too, but computes with two axes only, and Wan's one convolution has three.
_COMFY_ENDINGS = re.compile(
    r"\.lora_(?:A|B)(?:\.default)?\.weight|\.lora_(?:A|B)|\.lora_(?:down|up)\.weight|[._]lora\.(?:down|up)\.weight"
    r"|\.lora_linear_layer\.(?:down|up)\.weight|\.alpha|\.dora_scale|\.diff|\.diff_b|\.w_norm|\.b_norm|\.set_weight"
    r"|\.hada_w[12]_[ab]|\.lokr_w[12](?:_[ab])?|\.[ab][12]\.weight"
)


class LoraKey(NamedTuple):
    """A parsed key of a LoRA file.

    Attributes:
        key: the tensor that is changed, without `.weight` (`blocks.0.self_attn.q`, `blocks.0.self_attn.q.bias`,
            `blocks.0.modulation`).
        role: in the change (`down`, `up`, `alpha`, `diff`, `hada_w1_a`, ...).
        adapter: PEFT's name of the adapter, of which a file may hold several.
    """

    key: str
    role: str
    adapter: str


def parse_key(name: str) -> LoraKey | None:
    """Parse a key; None if the entry cannot be merged."""
    match, adapter = _PAIR.fullmatch(name), ""
    if match is not None:
        layer, role, adapter, ending = match["layer"], _SIDES[match["side"]], match["adapter"] or "", ""
    elif (match := _OTHER.fullmatch(name)) is not None:
        layer, ending = match["layer"], match["ending"]
        role = _ROLES.get(ending, ending)
    else:
        return None
    of_bias = ending in _OF_BIAS or layer.endswith(".bias")
    module = wan_module(layer.removesuffix(".bias").removesuffix(".weight"))
    return None if module is None else LoraKey(f"{module}.bias" if of_bias else module, role, adapter)


def has_lora_ending(name: str) -> bool:
    """Return whether a key ends like an entry of a LoRA file, of any layer."""
    return (_PAIR.fullmatch(name) or _OTHER.fullmatch(name) or _kind(name)) is not None


def comfyui_reads(name: str) -> bool:
    """Return whether ComfyUI's own LoRA loader finds the weight of an entry in a Wan model."""
    for ending in _COMFY_ENDINGS.finditer(name):
        if ending.end() == len(name):
            layer = name[: ending.start()]
            module = wan_module(layer)
            if module is None or is_parameter(module):
                return layer == f"diffusion_model.{module}"
            return layer in (f"diffusion_model.{module}", f"lora_unet_{underscored(module)}")
    return False


def describe_unread(unread: Iterable[str], names: Iterable[str]) -> str:
    """Describe which of a LoRA's `names` cannot be merged, what they are, and what to do, after the file's name."""
    unread, names = list(unread), list(names)
    foreign = next((what for pattern, what in FOREIGN if any(re.search(pattern, name) for name in unread)), None)
    usual = all(_PAIR.fullmatch(name) or _OTHER.fullmatch(name) for name in unread)
    if not any(parse_key(name) for name in names) and (foreign is not None or usual):
        return (
            f"belongs to another model: none of its {len(names)} entries is of Wan 2.1"
            f"{f', but of {foreign}' if foreign else ''}: {sample(unread)}. {USE_INSTEAD}"
        )
    if foreign is not None or usual:
        what = f"entries of {foreign}" if foreign else "layers that Wan 2.1 does not have"
        return f"has {what}: {sample(unread)}. {USE_INSTEAD}"
    kinds = ", ".join(sorted({kind for name in unread if (kind := _kind(name))}))
    what = f"{kinds}, which is not merged here" if kinds else "entries that are not understood"
    return f"has {what}: {sample(unread)}. {_advice(names)}"


USE_INSTEAD = "Use LongLive's lora.pt here, or a LoRA that was trained on Wan 2.1 T2V 1.3B"


def _advice(names: list[str]) -> str:
    if all(comfyui_reads(name) for name in names):
        return "ComfyUI's LoRA loader nodes read this file unchanged: connect one after Load LongLive"
    return (
        "ComfyUI's LoRA loader nodes do not read all of it either; save it as an ordinary LoRA (only lora_A and "
        "lora_B) with the program that trained it"
    )


def _kind(name: str) -> str | None:
    return next((what for pattern, what in UNMERGED if re.search(pattern, name)), None)
