"""The files that ComfyUI's manager, its registry and pip read; the registry's package; the repository's weight."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from longlive_core.checkpoints.built_in import DIT_FILE, TEXT_ENCODER_FILE, VAE_FILE
from scripts import templates

from . import package

ROOT = Path(__file__).resolve().parents[1]
PACKAGE_BYTES = 30_000_000  # of the registry's package, unpacked
REPOSITORY_BYTES = 53_000_000  # of all tracked files; raise it only for something that replaces nothing
FILE_BYTES = 300_000  # of one file that is not in LARGE
# The only large files: what replaces one of them may be as large as this, and no larger.
LARGE = {
    "longlive_core/pocket/weights/pocket_dit.safetensors": 14_500_000,
    "longlive_core/pocket/weights/pocket_vae.safetensors": 7_300_000,
    "longlive_core/pocket/weights/pocket_text_encoder.safetensors": 750_000,
    "docs/images/story.webp": 1_500_000,
    **{
        f"tests/fidelity/{name}.safetensors": size
        for name, size in {
            "framewise": 2_200_000,
            "global_attention": 2_200_000,
            "lora": 2_400_000,
            "relative_rope": 2_800_000,
            "single_prompt": 2_500_000,
            "switch_keep_sink": 2_700_000,
            "switch_reset_sink": 2_700_000,
            "vae": 4_700_000,
        }.items()
    },
}
needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs git and a clone of the repository"
)


def project_dependencies() -> list[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # tomllib exists only from Python 3.11 on
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    return re.findall(r'"([^"]+)"', block[1])


def requirements() -> list[str]:
    return (ROOT / "requirements.txt").read_text(encoding="utf-8").split()


def test_both_lists_of_dependencies_are_equal():
    """Forbids a manager that installs other packages than the registry shows."""
    assert sorted(project_dependencies()) == sorted(requirements())


def test_training_packages_are_installed_for_tests():
    """Forbids tests of the training against other packages than its users have."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    train = re.search(r"^train = (\[.*\])$", text, re.MULTILINE)[1]
    assert f"TRAINING = {train}" in (ROOT / "scripts/bootstrap.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["torch", "torchvision", "torchaudio"])
def test_pytorch_is_not_listed(package):
    """Forbids a pack that replaces the PyTorch of the user's ComfyUI."""
    assert package not in [re.split(r"[^A-Za-z0-9_-]", line)[0] for line in requirements()]


def test_pack_imports_outside_comfyui():
    """Forbids imports of ComfyUI at the pack's top, on which test runners and registries fail."""
    spec = importlib.util.spec_from_file_location("a_pack", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / module.WEB_DIRECTORY).is_dir()
    assert not hasattr(module, "NODE_CLASS_MAPPINGS")  # with it ComfyUI would ignore comfy_entrypoint


@pytest.mark.slow
def test_core_imports_without_comfyui():
    """Forbids an engine that needs its host."""
    code = "import sys, longlive_core.run.pipeline, longlive_core.film.video; print('comfy' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@needs_git
def test_the_repository_does_not_grow():
    """Forbids weights, recordings and pictures that are added where they should replace: every clone has all."""
    sizes = {path: (ROOT / path).stat().st_size for path in package.tracked()}
    assert {path: size for path, size in sizes.items() if size > LARGE.get(path, FILE_BYTES)} == {}
    assert set(LARGE) <= set(sizes), "LARGE names files that are gone"
    assert sum(sizes.values()) <= REPOSITORY_BYTES


@needs_git
def test_the_registrys_package_has_what_users_need():
    """Forbids a package without weights, web files, help pages, templates or their pictures."""
    packed = set(package.packed())
    weights = [f"longlive_core/pocket/weights/{name}" for name in (DIT_FILE, VAE_FILE, TEXT_ENCODER_FILE)]
    shown = [f"workflows/{templates.file_name(name)}.{end}" for name in templates.NAMES for end in ("json", "jpg")]
    code = [path for path in package.tracked() if path.split("/")[0] in ("longlive_core", "nodes", "web")]
    read = ["__init__.py", "pyproject.toml", "requirements.txt", "LICENSE", "README.md"]
    assert set(weights + shown + code + read) - packed == set()
    assert set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))) <= packed


@needs_git
def test_the_registrys_package_is_small():
    """Forbids tests, recordings and scripts in the package, and one above the size that a download may have."""
    packed = package.packed()
    assert {path.split("/")[0] for path in packed} & {
        "tests",
        "scripts",
        "benchmarks",
        ".ci",
        ".venv",
        ".comfyui",
    } == set()
    assert sum((ROOT / path).stat().st_size for path in packed) <= PACKAGE_BYTES


@needs_git
def test_the_registrys_package_needs_nothing_that_it_lacks():
    """Forbids code in the package that imports tests, scripts or benchmarks, which are not in it."""
    wrong = []
    for path in (path for path in package.packed() if path.endswith(".py")):
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            wrong += [(path, name) for name in names if name.split(".")[0] in ("tests", "scripts", "benchmarks")]
    assert wrong == []


def test_the_registrys_own_checks():
    """Forbids what `comfy node validate` warns of (exec, eval, several statements in a line), and missing fields."""
    check = [sys.executable, "-m", "ruff", "check", "--quiet", "--select", "S102,S307,E702", "."]
    assert subprocess.run(check, cwd=ROOT, capture_output=True, text=True).stdout == ""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for field in ("name", "version", "description", "license", "PublisherId", "DisplayName"):
        assert re.search(rf"^{field} = .", text, re.MULTILINE), field
    assert re.search(r'^version = "\d+\.\d+\.\d+"$', text, re.MULTILINE)


@pytest.mark.slow
@needs_git
def test_the_commands_of_the_readme_work_in_the_package(tmp_path):
    """Forbids a README that sends users of the registry's package to commands which are not in it."""
    package.unpack(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"^    python -m longlive_core (\w+)", text, re.MULTILINE))
    assert commands
    for command in commands:
        call = [sys.executable, "-m", "longlive_core", command, "--help"]
        assert subprocess.run(call, cwd=tmp_path, capture_output=True).returncode == 0, command
