"""Files of the server step: random models, and a copy of this pack that treats them as its built-in ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .environment import ROOT

MODEL, VAE = "longlive_random.safetensors", "wan_vae_random.safetensors"
PACK = "ComfyUI-LongLive"
PACK_PARTS = ("__init__.py", "pyproject.toml", "nodes", "longlive_core", "web")


def write_models(models: Path, name: str, device: str) -> dict[str, float]:
    """Write a transformer and a VAE of the benchmark's model `name` to ComfyUI's folders; return their gigabytes."""
    import torch
    from safetensors.torch import save_file

    from benchmarks import rollout as bench

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    model, decoder = bench.build(bench.MODELS[name], device, dtype)
    written = {}
    for folder, file, module in (("diffusion_models", MODEL, model.module), ("vae", VAE, decoder.module)):
        path = models / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.cpu().contiguous() for key, value in module.state_dict().items()}, path)
        written[file] = round(path.stat().st_size / 1e9, 3)
    del model, decoder, module
    if device == "cuda":
        torch.cuda.empty_cache()  # from now on the server uses the card
    return written


def place_pack(custom_nodes: Path, models: Path) -> None:
    """Copy this pack there, with the random models in the place of the built-in ones.

    So Load LongLive offers a text encoder for a model of this width, and none of 11 GB is needed.
    """
    from longlive_core.checkpoints.built_in import DIT_FILE, VAE_FILE

    target = custom_nodes / PACK
    target.mkdir(parents=True)
    skip = shutil.ignore_patterns("__pycache__", DIT_FILE, VAE_FILE)
    for name in PACK_PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=skip)
        else:
            shutil.copy(ROOT / name, target / name)
    weights = target / "longlive_core" / "pocket" / "weights"
    for name, source in ((DIT_FILE, models / "diffusion_models" / MODEL), (VAE_FILE, models / "vae" / VAE)):
        try:
            os.link(source, weights / name)
        except OSError:  # a file system without hard links
            shutil.copy(source, weights / name)
