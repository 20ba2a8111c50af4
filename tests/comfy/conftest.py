"""One ComfyUI server for all tests of this folder, with model files that the tests need."""

from __future__ import annotations

import pickle
import shutil

import pytest

from longlive_core.checkpoints.built_in import DIT_FILE, VAE_FILE, weights_folder
from scripts.harness.models import place_models
from scripts.harness.server import ComfyServer, comfyui_path

from .gate import OPEN, place_gate
from .tiny_models import place_tiny

TRUNCATED, PICKLED = "truncated.safetensors", "pickled.pt"


class Payload:
    """If it is unpickled unsafely, it creates a file."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _place_bad_files(models, marker) -> None:
    diffusion = models / "diffusion_models"
    shutil.copy(weights_folder() / VAE_FILE, diffusion / VAE_FILE)
    content = (weights_folder() / DIT_FILE).read_bytes()
    (diffusion / TRUNCATED).write_bytes(content[: len(content) // 2])
    (diffusion / PICKLED).write_bytes(pickle.dumps({"generator": Payload(str(marker))}))


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if comfyui_path() is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    base = tmp_path_factory.mktemp("comfyui")
    place_models(base / "models")
    place_tiny(base / "models")
    place_gate(base / "custom_nodes")
    _place_bad_files(base / "models", base / "code-was-run")
    with ComfyServer(base) as running:
        yield running


@pytest.fixture
def client(server):
    from scripts.harness.client import ComfyClient

    with ComfyClient(server.url) as connection:
        yield connection
        connection.post(OPEN, {})  # a test that failed may have left it waiting


@pytest.fixture(scope="module")
def object_info(server):
    """What the server says of its nodes."""
    from scripts.harness.client import ComfyClient

    with ComfyClient(server.url) as connection:
        return connection.get("/object_info")


@pytest.fixture(scope="session")
def short_film(server):
    """The short film of `graphs.film()`, rendered once: (run, the saved file's content)."""
    from scripts.harness import graphs
    from scripts.harness.client import ComfyClient

    server.forget_takes()  # other tests may have rendered its beginning
    with ComfyClient(server.url) as connection:
        run = connection.run(graphs.film(), graphs.ui("one_prompt"))
        assert run.status == "execution_success", run.error
        return run, connection.view(run.outputs[graphs.SAVE]["images"][0])
