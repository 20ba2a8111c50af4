"""Recognise a weight file by its keys: its kind, and whether LongLive can run a model of the Wan family."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple


class FileKind(NamedTuple):
    """A kind of file: `what` it is and where it belongs, and `markers`, parts of keys that identify it."""

    name: str
    what: str
    markers: tuple[str, ...]


# The first match wins, so specific kinds are before general ones.
FILE_KINDS = (
    FileKind(
        "lora",
        "a LoRA; it belongs in models/loras and is given as `lora`, beside a diffusion model",
        (".lora_A", ".lora_B", ".lora_down.", ".lora_up.", "lora.down.", "lora.up.", ".lokr_w", ".hada_w", ".diff_b"),
    ),
    FileKind(
        "wan22_vae",
        "the VAE of Wan 2.2 (48 channels); LongLive needs Wan 2.1's (wan_2.1_vae.safetensors)",
        ("decoder.upsamples.0.upsamples.0.",),
    ),
    FileKind(
        "vae", "Wan 2.1's VAE; it belongs in models/vae and is given as `vae`", ("decoder.middle.0.residual.0.gamma",)
    ),
    FileKind(
        "umt5",
        "a text encoder (UMT5, Wan's names); it belongs in models/text_encoders and is given as `text_encoder`",
        ("blocks.0.attn.q.weight",),
    ),
    FileKind(
        "t5",
        "a text encoder (T5/UMT5); it belongs in models/text_encoders and is given as `text_encoder`",
        ("encoder.block.0.layer.0.SelfAttention.q.weight",),
    ),
    FileKind(
        "sd",
        "a Stable Diffusion model (SD/SDXL), not Wan 2.1",
        ("input_blocks.0.0.weight", "down_blocks.0.attentions.0."),
    ),
    FileKind("mmdit", "an SD3, Flux or HunyuanVideo model, not Wan 2.1", ("double_blocks.0.", "joint_blocks.0.")),
    FileKind(
        "image_vae",
        "an image VAE, not one of Wan 2.1",
        ("decoder.conv_in.weight", "decoder.mid.block_1.", "decoder.mid_block."),
    ),
    FileKind(
        "clip",
        "a CLIP model, not one of Wan 2.1",
        ("text_model.encoder.layers.0.", "vision_model.encoder.layers.0.", "visual.transformer."),
    ),
)

# Members of the Wan family other than the text-to-video model that LongLive is based on: a part that only they have
# (the first word of its keys, and an attribute of a loaded module).
RELATIVES = (
    ("vace_patch_embedding", "Wan VACE"),
    ("vace_blocks", "Wan VACE"),
    ("control_adapter", "Wan Fun Camera"),
    ("casual_audio_encoder", "Wan S2V"),
    ("audio_proj", "HuMo"),
    ("face_adapter", "Wan Animate"),
    ("img_emb", "Wan image-to-video (I2V)"),
)

# The same by the latent channels of the input.
CHANNELS = {
    36: "Wan image-to-video (I2V, 36 input channels)",
    48: "Wan 2.2 5B (48 input channels; LongLive 2.0 is based on it)",
}

LATENT_CHANNELS = 16
WAN_14B_WIDTH = 5120


def recognise(names: Iterable[str]) -> FileKind | None:
    """Return the kind of a file, from its keys; None if no kind matches (or it is a Wan diffusion model)."""
    names = list(names)
    return next((kind for kind in FILE_KINDS if any(marker in name for name in names for marker in kind.markers)), None)


def unsuitable(parts: Collection[str], channels: int, width: int, layers: int) -> str | None:
    """Return what a model of the Wan family is, and why LongLive cannot run it; None if it can.

    The causal forward would run on any width. But LongLive's weights, LoRA and training exist for the 1.3B model only,
    and plain 14B weights were not trained to generate chunk by chunk. No causal 14B model was ever tried here. So 14B
    is refused, except as a teacher or critic in training, which see whole clips.

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
