"""Load LongLive: files, or the built-in pocket model, as ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import io

from ..longlive_core.pocket import DIT_FILE, VAE_FILE, is_pocket_file, weights_folder
from . import compat
from .pocket_clip import load_pocket_clip
from .search_words import WORDS

POCKET = "pocket (built-in)"
FROM_MODEL = "from the model"
NONE = "none"
DTYPES = ["auto", *compat.DTYPES]
WANTED = {
    "text_encoders": "a text encoder, such as umt5_xxl_fp16.safetensors in models/text_encoders",
    "vae": "a VAE, such as wan_2.1_vae.safetensors in models/vae",
}


class LongLiveLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        files = folder_paths.get_filename_list
        return compat.schema(
            node_id="LongLiveLoad",
            display_name="Load LongLive",
            category="LongLive",
            description="Loads a LongLive model, its text encoder and its VAE. The pocket model is built in: it draws "
            "coloured shapes, needs no download and runs on any CPU.",
            search_aliases=WORDS["LongLiveLoad"],
            inputs=[
                io.Combo.Input(
                    "model", options=[POCKET, *files("diffusion_models")], default=POCKET,
                    tooltip="The built-in pocket model, or a file of models/diffusion_models: LongLive's "
                    "longlive_base.pt, a Self-Forcing checkpoint, or any Wan 2.1 1.3B text-to-video file, INT8 too.",
                ),
                io.Combo.Input(
                    "lora", options=[NONE, *files("loras")], default=NONE,
                    tooltip="LongLive's own LoRA (models/loras), which turns longlive_base.pt into LongLive. It is "
                    "merged into the model. Ordinary LoRAs go into LoRA loader nodes after this one.",
                ),
                io.Combo.Input(
                    "text_encoder", options=[FROM_MODEL, *files("text_encoders")], default=FROM_MODEL,
                    tooltip="The pocket model and files of its training bring their own. All others need umt5-xxl in "
                    "ComfyUI's format, such as umt5_xxl_fp16.safetensors.",
                ),
                io.Combo.Input(
                    "vae", options=[FROM_MODEL, *files("vae")], default=FROM_MODEL,
                    tooltip="The pocket model and files of its training bring their own. All others need Wan 2.1's "
                    "VAE, such as wan_2.1_vae.safetensors.",
                ),
                io.Combo.Input(
                    "dtype", options=DTYPES, default="auto",
                    tooltip="Precision of model and VAE. auto is bf16 where the device computes in it, fp16 on cards "
                    "that do not (such as GTX 16 and RTX 20), else fp32; flags of ComfyUI such as --fp16-unet count. "
                    "The sampler's report says what was taken.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL"),
                io.Clip.Output(display_name="CLIP"),
                io.Vae.Output(display_name="VAE"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, model=None, lora=None, text_encoder=None, vae=None, dtype=None):
        # ComfyUI 0.3.75 does not look whether a value is among a combo's choices: it may be of another version's.
        if dtype not in (None, *DTYPES):
            return f"dtype {dtype!r}: allowed are {', '.join(DTYPES)}"
        chosen = {"diffusion_models": model, "loras": lora, "text_encoders": text_encoder, "vae": vae}
        gone = [f"{name} in models/{folder}" for folder, name in chosen.items() if _is_gone(folder, name)]
        if gone:
            return f"there is no {' and no '.join(gone)}; press R to read the folders again"
        missing = [WANTED[folder] for folder in WANTED if chosen[folder] == FROM_MODEL]
        if model in (None, POCKET) or not missing or is_pocket_file(_path("diffusion_models", model)):
            return True
        return f"{model} brings none of its own: choose {' and '.join(missing)}"

    @classmethod
    def execute(cls, model, lora, text_encoder, vae, dtype, **removed) -> io.NodeOutput:
        compat.refuse_removed(removed)
        model_path = _path("diffusion_models", model) or str(weights_folder() / DIT_FILE)
        vae_path = _path("vae", vae) or str(weights_folder() / VAE_FILE)
        clip_path = _path("text_encoders", text_encoder)
        embeddings = folder_paths.get_folder_paths("embeddings")
        return io.NodeOutput(
            compat.load_model(model_path, _path("loras", lora), dtype),
            compat.load_clip(clip_path, embeddings) if clip_path else load_pocket_clip(),
            compat.load_vae(vae_path, dtype),
        )


def _path(folder: str, name: str) -> str | None:
    """The file chosen, or None for the choices that are no files."""
    return None if name in (POCKET, FROM_MODEL, NONE) else folder_paths.get_full_path_or_raise(folder, name)


def _is_gone(folder: str, name: str | None) -> bool:
    return name not in (None, POCKET, FROM_MODEL, NONE) and folder_paths.get_full_path(folder, name) is None
