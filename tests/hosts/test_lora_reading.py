"""What a real ComfyUI's LoRA loader reads: whether advice to use it holds, and whether it loads what is converted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.harness.server import ROOT, comfyui_path

from ..lora_files import COMFYUI_READS, NAMINGS

pytestmark = pytest.mark.slow

INSIDE = Path(__file__).with_name("inside_lora.py")


@pytest.fixture(scope="module")
def facts():
    """What `inside_lora.py` found."""
    comfyui = comfyui_path()
    if comfyui is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [sys.executable, str(INSIDE), str(comfyui), str(ROOT)],
        env=environment,
        cwd=comfyui,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_what_comfyui_reads_by_itself(facts):
    """Forbids sending people to ComfyUI's loader with names of which it loads nothing, and a table that is out of date
    when it learns more."""
    assert set(facts["read whole"]) >= COMFYUI_READS
    assert facts["false claims"] == [] and facts["claims"] > 30 and facts["known"] > facts["claims"]


def test_what_is_converted_is_read_whole(facts):
    """Forbids "lora key not loaded" for a file that `convert` wrote."""
    assert set(facts["converted"]) == set(NAMINGS)


def test_comfyui_merges_the_same(facts):
    """Forbids another result than ComfyUI's own for LoRA, LoHa, LoKr and differences, before and after converting."""
    assert facts["differing"] == []
