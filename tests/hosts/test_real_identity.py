"""Names of models in a real ComfyUI of any version: those of the command line, however they are loaded.

COMFYUI_GGUF may name a folder of ComfyUI-GGUF (with the package gguf installed); without it there is a stand-in.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.harness.server import ROOT, comfyui_path

pytestmark = pytest.mark.slow

INSIDE = Path(__file__).with_name("inside_identity.py")

# Written down from the version before, which named MODEL, CLIP and VAE otherwise; the same in ComfyUI 0.3.75, 0.27.0
# and 0.33.0, for the weights that `inside_identity.py` creates.
EARLIER = {
    "plain": ["1efc1bc057126d7cbeb03744f3b4ab0b"],
    "LoRA": ["cd827440045218d9116191b5ac50f944"],
    "vae": ["e959f1b3160049389b09e6daafb39212"],
    "text": ["9642571f8bc9407e02f11e53172bdc46"],
}
EARLIER_DYNAMIC = ["0d58223cb44da4a29ea815c5c296193e", "146ce1bd42b044e78efe48890c8eaef7"]  # loaded, and before


@pytest.fixture(scope="module")
def facts():
    """What `inside_identity.py` found."""
    comfyui = comfyui_path()
    if comfyui is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    gguf = [os.environ["COMFYUI_GGUF"]] if "COMFYUI_GGUF" in os.environ else []
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, str(INSIDE), str(comfyui), str(ROOT), *gguf],
        env=environment,
        cwd=comfyui,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def wrong(facts: dict) -> list[str]:
    return [name for name, holds in facts.items() if holds is False]


def test_the_command_lines_names(facts):
    """Forbids a second name for the same weights, by which a take begun in one could not be continued in the other: of
    a file's dtype, of one that ComfyUI keeps weights in, of its names for the text encoder."""
    for kind, count in (("core", 10), ("native", 2), ("vae", 3), ("text", 6)):
        assert wrong(facts[kind]) == [] and len(facts[kind]) == count, kind


def test_loading_changes_no_name(facts):
    """Forbids that the first run of a session and the second have different films: of LoRAs put on and taken off, of
    what is offloaded, of what dynamic VRAM casts."""
    for kind in ("loading", "int8", "fp8", "dynamic"):
        assert wrong(facts[kind]) == [], kind


def test_gguf_models_have_names(facts):
    """Forbids names from state dictionaries without content, which raise, and names that all files of a size share."""
    assert wrong(facts["gguf"]) == []


def test_names_of_the_version_before_are_known(facts):
    """Forbids losing the films of earlier versions, under both names that dynamic VRAM gave them."""
    assert facts["earlier"] == EARLIER
    assert facts["dynamic"].get("old names", EARLIER_DYNAMIC) == EARLIER_DYNAMIC


def test_a_model_without_a_name_is_refused(facts):
    """Forbids an error from inside PyTorch, and a name that any other model would have, too."""
    assert "the MODEL cannot be identified" in facts["refused"] and "blocks.1.ffn.0.weight" in facts["refused"]
