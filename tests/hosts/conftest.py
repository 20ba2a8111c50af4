"""A real ComfyUI that takes or refuses graphs, in a process of its own without a server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scripts.harness.server import ROOT, comfyui_path

INSIDE = Path(__file__).with_name("inside_queueing.py")


class Inside:
    """A process that answers one request after another."""

    def __init__(self, models: Path):
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        self.log = models / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(INSIDE), str(comfyui_path()), str(ROOT), str(models)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
            )

    def ask(self, request: dict) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the process ended:\n{self.log.read_text(encoding='utf-8', errors='replace')[-3000:]}"
        return json.loads(line)

    def errors(self, graph: dict, **body) -> list[list[str]]:
        """[node, type, details] of everything that ComfyUI refuses in a graph."""
        return self.ask({"prompt": graph, **body})["errors"]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def inside(tmp_path_factory):
    if comfyui_path() is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    models = tmp_path_factory.mktemp("models")
    for folder in ("diffusion_models", "loras", "vae", "text_encoders"):
        (models / folder).mkdir()
    with (models / "diffusion_models" / "longlive_base.pt").open("wb") as file:
        file.truncate(2 * 10**9)  # as large as the real one; no block of it is on the disk
    patches = {"patch_embedding.weight": torch.zeros(8, 16, 1, 2, 2)}
    save_file(patches, models / "diffusion_models" / "another.safetensors")
    for folder, name in (
        ("text_encoders", "umt5_xxl_fp16.safetensors"),
        ("vae", "wan_2.1_vae.safetensors"),
        ("loras", "lora.pt"),
    ):
        (models / folder / name).write_bytes(b"")
    process = Inside(models)
    yield process
    process.stop()
