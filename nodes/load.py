"""The node Load LongLive: files, or the built-in pocket model, as ComfyUI's own MODEL, CLIP and VAE."""

from __future__ import annotations

from typing import Any

import folder_paths
from comfy_api.latest import io

from ..longlive_core.checkpoints.built_in import DIT_FILE, VAE_FILE, is_pocket_file, weights_folder
from ..longlive_core.config import WEIGHT_SETS
from ..longlive_core.words.wording import shorten
from . import compat
from .compat.queued_prompt import host_validates_choices
from .pocket_clip import load_pocket_clip
from .search_words import WORDS
from .validation import widget_values
from .validation.graph import UNKNOWN, QueuedGraph
from .validation.queued import validate_queued, widget_error

LOAD = "LongLiveLoad"
POCKET = "pocket (built-in)"
FROM_MODEL = "from the model"
NONE = "none"
DTYPES = ["auto", *compat.DTYPES]
FOLDERS = {"model": "diffusion_models", "lora": "loras", "text_encoder": "text_encoders", "vae": "vae"}
WANTED = {
    "text_encoder": "a text encoder, such as umt5_xxl_fp16.safetensors in models/text_encoders",
    "vae": "a VAE, such as wan_2.1_vae.safetensors in models/vae",
}


class LongLiveLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return compat.schema(
            node_id=LOAD,
            display_name="Load LongLive",
            category="LongLive",
            description="Loads a LongLive model, its text encoder and its VAE. The pocket model is built in: it draws "
            "coloured shapes, needs no download and runs on any CPU.",
            search_aliases=WORDS["LongLiveLoad"],
            inputs=load_inputs(),
            outputs=[
                io.Model.Output(display_name="MODEL"),
                io.Clip.Output(display_name="CLIP"),
                io.Vae.Output(display_name="VAE"),
            ],
        )

    @classmethod
    def validate_inputs(cls, model=None):  # one argument: see compat.queued_prompt
        return validate_queued(LOAD, _error, alone=_gone({"model": model}))

    @classmethod
    def execute(cls, model, lora, text_encoder, vae, dtype, weights="auto", **removed) -> io.NodeOutput:
        given = {
            "model": model,
            "lora": lora,
            "text_encoder": text_encoder,
            "vae": vae,
            "dtype": dtype,
            "weights": weights,
            **removed,
        }
        if (gone := _gone(given)) is not None:  # linked values are known only now
            raise ValueError(gone)
        widget_values.settings(load_inputs(), given)
        if (missing := _missing(given)) is not None:
            raise ValueError(missing)
        model_path = _path("diffusion_models", model) or str(weights_folder() / DIT_FILE)
        vae_path = _path("vae", vae) or str(weights_folder() / VAE_FILE)
        clip_path = _path("text_encoders", text_encoder)
        embeddings = folder_paths.get_folder_paths("embeddings")
        return io.NodeOutput(
            compat.load_model(model_path, _path("loras", lora), dtype, weights),
            compat.load_clip(clip_path, embeddings) if clip_path else load_pocket_clip(),
            compat.load_vae(vae_path, dtype),
        )


def load_inputs() -> list[io.Input]:
    """Return the inputs. Workflow files store values by position: only append."""
    files = folder_paths.get_filename_list
    return [
        io.Combo.Input(
            "model",
            options=[POCKET, *files("diffusion_models")],
            default=POCKET,
            tooltip="The built-in pocket model, or a file in models/diffusion_models: LongLive's "
            "longlive_base.pt, a Self-Forcing checkpoint, or any Wan 2.1 1.3B text-to-video file, also in INT8.",
        ),
        io.Combo.Input(
            "lora",
            options=[NONE, *files("loras")],
            default=NONE,
            tooltip="A LoRA in models/loras, merged into the model: LongLive's own, which turns longlive_base.pt into "
            "LongLive, or one for Wan 2.1 1.3B from any trainer. Load more LoRAs with LoRA loader nodes after this "
            "one.",
        ),
        io.Combo.Input(
            "text_encoder",
            options=[FROM_MODEL, *files("text_encoders")],
            default=FROM_MODEL,
            tooltip="The pocket model and checkpoints of its training contain their own. All others need umt5-xxl in "
            "ComfyUI's format, such as umt5_xxl_fp16.safetensors.",
        ),
        io.Combo.Input(
            "vae",
            options=[FROM_MODEL, *files("vae")],
            default=FROM_MODEL,
            tooltip="The pocket model and checkpoints of its training contain their own. All others need Wan 2.1's "
            "VAE, such as wan_2.1_vae.safetensors.",
        ),
        io.Combo.Input(
            "dtype",
            options=DTYPES,
            default="auto",
            tooltip="Precision of model and VAE. auto: bf16 if the device computes in it, fp16 on cards that do not "
            "(such as GTX 16 and RTX 20), else fp32; ComfyUI's flags such as --fp16-unet are respected. The sampler's "
            "report shows the choice.",
        ),
        compat.widget(
            io.Combo,
            "weights",
            options=list(WEIGHT_SETS),
            default="auto",
            optional=True,
            advanced=True,
            tooltip="For training checkpoints with two sets of weights: generator, and generator_ema, its moving "
            "average. auto uses generator, or the average if the file has nothing else; the log says which. "
            "Self-Forcing's own films use the average.",
        ),
    ]


def _error(graph: QueuedGraph, node: str) -> str | None:
    """Return the error of a Load LongLive in the queued prompt."""
    chosen = {name: graph.value(node, name) for name in FOLDERS}
    chosen = {name: value for name, value in chosen.items() if value is not UNKNOWN}
    host_checks = FOLDERS.keys() - {"model"} if host_validates_choices() else set()
    gone = _gone({name: value for name, value in chosen.items() if name not in host_checks})
    error, all_valid = (gone, False) if gone else widget_error(graph, node, load_inputs(), taken="model")
    return _missing(chosen) if all_valid else error


def _gone(chosen: dict[str, Any]) -> str | None:
    """Return the error for chosen files that do not exist any more."""
    gone = [
        f"{shorten(chosen[name], 200)} in models/{folder}"
        for name, folder in FOLDERS.items()
        if isinstance(chosen.get(name), str) and _is_gone(folder, chosen[name])
    ]
    return f"there is no {' and no '.join(gone)}; press R to read the folders again" if gone else None


def _missing(chosen: dict[str, Any]) -> str | None:
    """Return the error for a part that the chosen model does not contain and that is not chosen either."""
    model = chosen.get("model", POCKET)
    missing = [wanted for name, wanted in WANTED.items() if chosen.get(name) == FROM_MODEL]
    if model == POCKET or not missing or is_pocket_file(_path(FOLDERS["model"], model)):
        return None
    return f"{model} contains none of its own: choose {' and '.join(missing)}"


def _path(folder: str, name: str) -> str | None:
    """Return the chosen file's path; None for choices that are not files."""
    return None if name in (POCKET, FROM_MODEL, NONE) else folder_paths.get_full_path_or_raise(folder, name)


def _is_gone(folder: str, name: str | None) -> bool:
    return name not in (None, POCKET, FROM_MODEL, NONE) and folder_paths.get_full_path(folder, name) is None
