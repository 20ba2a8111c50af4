"""One ComfyUI server for all tests of this folder, with model files that the tests need."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core.pocket import DIT_FILE, TEXT_ENCODER_FILE, VAE_FILE, weights_folder

from .server import ComfyServer, comfyui_path

LORA = "louder.safetensors"
TRUNCATED, PICKLED = "truncated.safetensors", "pickled.pt"


class Payload:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _place_files(models, marker) -> None:
    for folder, name in (("diffusion_models", DIT_FILE), ("vae", VAE_FILE), ("text_encoders", TEXT_ENCODER_FILE)):
        (models / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(weights_folder() / name, models / folder / name)
    diffusion = models / "diffusion_models"
    shutil.copy(weights_folder() / VAE_FILE, diffusion / VAE_FILE)
    content = (weights_folder() / DIT_FILE).read_bytes()
    (diffusion / TRUNCATED).write_bytes(content[: len(content) // 2])
    (diffusion / PICKLED).write_bytes(pickle.dumps({"generator": Payload(str(marker))}))
    (models / "loras").mkdir(exist_ok=True)
    save_file(_lora(), models / "loras" / LORA)


def _lora() -> dict[str, torch.Tensor]:
    """A random LoRA on the first block's attention, in the names that ComfyUI's LoRA loaders take."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in ("q", "v", "o"):
        name = f"blocks.0.self_attn.{layer}"
        width = load_file(weights_folder() / DIT_FILE)[f"{name}.weight"].shape[0]
        for part, shape in (("A", (4, width)), ("B", (width, 4))):
            tensors[f"diffusion_model.{name}.lora_{part}.weight"] = torch.randn(shape, generator=generator) * 0.2
    return tensors


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if comfyui_path() is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    base = tmp_path_factory.mktemp("comfyui")
    _place_files(base / "models", base / "code-was-run")
    with ComfyServer(base) as running:
        yield running


@pytest.fixture
def client(server):
    from .client import ComfyClient

    with ComfyClient(server.url) as connection:
        yield connection


@pytest.fixture(scope="session")
def short_film(server):
    """The short film of `graphs.film()`, rendered once: (run, the saved file's content)."""
    from . import graphs
    from .client import ComfyClient

    with ComfyClient(server.url) as connection:
        run = connection.run(graphs.film(), graphs.ui("one_prompt"))
        assert run.status == "execution_success", run.error
        return run, connection.view(run.outputs[graphs.SAVE]["images"][0])
