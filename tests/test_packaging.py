"""The files that ComfyUI's manager, its registry and pip read, and the pack's import."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def project_dependencies() -> list[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib is there from Python 3.11 on only
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    return re.findall(r'"([^"]+)"', block[1])


def requirements() -> list[str]:
    return (ROOT / "requirements.txt").read_text(encoding="utf-8").split()


def test_both_lists_of_dependencies_are_equal():
    """Forbids that the manager installs something else than the registry shows."""
    assert sorted(project_dependencies()) == sorted(requirements())


def test_training_packages_are_installed_for_tests():
    """Forbids tests of the training against other packages than its users have."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    train = re.search(r"^train = (\[.*\])$", text, re.MULTILINE)[1]
    assert f"TRAINING = {train}" in (ROOT / "scripts/bootstrap.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["torch", "torchvision", "torchaudio"])
def test_pytorch_is_not_listed(package):
    """Forbids a pack that replaces the PyTorch of somebody's ComfyUI."""
    assert package not in [re.split(r"[^A-Za-z0-9_-]", line)[0] for line in requirements()]


def test_pack_imports_outside_comfyui():
    """Forbids imports of ComfyUI at the pack's top, on which test runners and registries fail."""
    spec = importlib.util.spec_from_file_location("a_pack", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / module.WEB_DIRECTORY).is_dir()
    assert not hasattr(module, "NODE_CLASS_MAPPINGS")  # with it ComfyUI would not look at comfy_entrypoint


@pytest.mark.slow
def test_core_imports_without_comfyui():
    """Forbids an engine that needs its host."""
    code = "import sys, longlive_core.run.pipeline, longlive_core.film.video; print('comfy' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
