"""Loading all models of a film: transformer, VAE decoder, text encoder, and the settings they were trained with."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import CheckpointError, build_model, load_lora, load_state_dict, load_vae, merge_lora
from ..checkpoints.built_in import DIT_FILE, VAE_FILE, is_pocket_file, weights_folder
from ..checkpoints.text_encoder import TextEncoder
from ..config import PRESETS, StreamConfig
from ..device.precision import resolve_dtype
from ..model import CausalWan
from ..sizes import trained_size
from ..vae import StreamingDecoder
from ..words.quantities import gigabytes
from .memory import free_memory, weight_bytes

logger = logging.getLogger(__name__)

POCKET = "pocket"

# The file that a missing argument needs, and its source.
WANTED = {
    "text_encoder": "models_t5_umt5-xxl-enc-bf16.pth (Wan-AI/Wan2.1-T2V-1.3B) or umt5_xxl_fp16.safetensors "
    "(Comfy-Org/Wan_2.1_ComfyUI_repackaged)",
    "vae": "Wan2.1_VAE.pth (Wan-AI/Wan2.1-T2V-1.3B) or wan_2.1_vae.safetensors (Comfy-Org/Wan_2.1_ComfyUI_repackaged)",
}


@dataclass
class Pipeline:
    """A loaded model with its VAE, text encoder and settings.

    Attributes:
        model: the causal model, on `device`.
        decoder: the VAE's streaming decoder, on `device`.
        text: the text encoder, on the CPU while it is not in use.
        stream: the settings the model was trained with.
        default_size: (width, height) in pixels it was trained at.
        device: the one that computes the film.
    """

    model: CausalWan
    decoder: StreamingDecoder
    text: TextEncoder
    stream: StreamConfig
    default_size: tuple[int, int]
    device: torch.device

    @classmethod
    def load(
        cls,
        model: str | os.PathLike = POCKET,
        lora: str | os.PathLike | None = None,
        text_encoder: str | os.PathLike | None = None,
        vae: str | os.PathLike | None = None,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device = "auto",
        *,
        preset: str | None = None,
        lora_strength: float = 1.0,
        lora_alpha: float | None = None,
        prefer_ema: bool | None = None,
    ) -> Pipeline:
        """Load a model by the path of its file, or the built-in "pocket", which has its own VAE and text encoder.

        Files from the pocket model's training use these too.

        Args:
            lora: merged into the weights at load.
            text_encoder, vae: paths; required unless the model is a pocket one (then they replace the built-in ones).
            dtype: of model and VAE. auto: bfloat16 if the device computes in it, float16 on GPUs that do not, else
                float32.
            device: auto: CUDA if there is one, else the CPU.
            preset: a name in `PRESETS`; by default "pocket" or "longlive-1.3b". Files of LongLive and of
                Self-Forcing cannot be told apart, so give "self-forcing" for the latter.
            lora_strength, lora_alpha, prefer_ema: see `merge_lora`, `load_lora` and `load_state_dict`.

        Raises:
            CheckpointError: a file is missing or of the wrong kind. ValueError: unknown dtype or preset.
        """
        if not is_pocket(model):
            _require(model, text_encoder=text_encoder, vae=vae)
        stream = settings_for(model, preset)
        device = resolve_device(device)
        dtype = resolve_dtype(dtype, device)
        model_path = model_file(model)
        weights = load_state_dict(model_path, prefer_ema=prefer_ema)
        if lora is not None:
            weights = merge_lora(weights, load_lora(lora, lora_alpha), lora_strength, path=lora)
        return cls(
            model=CausalWan(build_model(weights, device, dtype, path=model_path)),
            decoder=StreamingDecoder(load_vae(vae_file(vae), device, dtype)),
            text=load_text_encoder(text_encoder),
            stream=stream,
            default_size=default_size(model),
            device=device,
        )

    def encode(self, texts: Iterable[str]) -> dict[str, Tensor]:
        """Return the embedding [1, L, 4096] of each distinct text, float32 on the CPU.

        The encoder is on the device only for this: umt5-xxl is four times as large as the model. If it does not fit
        beside the model, it encodes on the CPU, and a warning says so.
        """
        distinct = list(dict.fromkeys(texts))
        try:
            contexts = self.text.to(self._encoding_device()).encode(distinct)
        finally:
            self.text.to("cpu")
        return {text: contexts[i : i + 1] for i, text in enumerate(distinct)}

    def _encoding_device(self) -> torch.device:
        size, free = weight_bytes(self.text.model), free_memory(self.device)
        if self.device.type == "cpu" or free is None or size <= free:
            return self.device
        logger.warning(
            "the text encoder (%s) does not fit beside the model on %s (%s free): prompts are encoded on the CPU",
            gigabytes(size),
            self.device,
            gigabytes(free),
        )
        return torch.device("cpu")


def _require(model, **paths) -> None:
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        wanted = "; ".join(f"{name}: {WANTED[name]}" for name in missing)
        raise CheckpointError(f"the model {model} needs more files. Give {wanted}")
    absent = [f"{name} ({path})" for name, path in paths.items() if not Path(path).exists()]
    if absent:
        raise CheckpointError(f"there is no file for {', '.join(absent)}")


def settings_for(model: str | os.PathLike, preset: str | None = None) -> StreamConfig:
    """Return a model's default settings, before it is loaded. ValueError: no such preset."""
    name = preset or own_preset(model)
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: allowed are {', '.join(PRESETS)}")
    return PRESETS[name]


def own_preset(model: str | os.PathLike) -> str:
    """Return the preset that a model is assumed to be trained with, before it is loaded."""
    return "pocket" if is_pocket(model) else "longlive-1.3b"


def default_size(model: str | os.PathLike) -> tuple[int, int]:
    """Return the (width, height) in pixels that a model was trained at."""
    return trained_size(own_preset(model))


def is_pocket(model: str | os.PathLike) -> bool:
    """Return whether a model is the built-in one, or a file from its training: it needs no other files."""
    return model == POCKET or is_pocket_file(model)


def model_file(model: str | os.PathLike) -> str | os.PathLike:
    return weights_folder() / DIT_FILE if model == POCKET else model


def vae_file(path: str | os.PathLike | None) -> str | os.PathLike:
    return weights_folder() / VAE_FILE if path in (None, POCKET) else path


def load_text_encoder(path: str | os.PathLike | None) -> TextEncoder:
    # The built-in encoder is small enough for full precision; a given one keeps the precision of its file.
    return TextEncoder.load(POCKET, dtype=torch.float32) if path in (None, POCKET) else TextEncoder.load(path)


def resolve_device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(name: str) -> None:
    """Raise ValueError unless torch can compute on the device `name`; "auto" always can."""
    if name == "auto":
        return
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA raises AssertionError
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device '{name}' here ({reason}); use auto, cpu, or cuda where there is a GPU") from error
