"""The tests against any ComfyUI, each version in an environment of its own. Run it by scripts/test_host.

COMFYUI_PATH=FOLDER test_host [arguments of pytest]

Where the arguments name no file, tests/comfy, tests/hosts and tests/gpu_ways run.

The environment is made once, in .cache/hosts: it sees the packages of .venv, and what that ComfyUI's requirements.txt
asks for beyond them is installed into it, PyTorch excepted. .venv stays as it is. HOST_PYTHON=PYTHON takes one that is
there already.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import bootstrap  # noqa: E402 - the path comes first

HOSTS = ROOT / ".cache" / "hosts"
TESTS = ["tests/comfy", "tests/hosts", "tests/gpu_ways"]


def main() -> int:
    given = os.environ.get("COMFYUI_PATH", "")
    comfyui = Path(given).expanduser().resolve()
    if not given or not (comfyui / "main.py").is_file():
        sys.exit(f"COMFYUI_PATH is '{given}', where there is no main.py; give the folder of a ComfyUI")
    python = os.environ.get("HOST_PYTHON") or make_environment(comfyui)
    print(f"ComfyUI {version(comfyui)} in {comfyui}, {python}", flush=True)
    arguments = sys.argv[1:]
    named = any((ROOT / argument.partition("::")[0]).exists() for argument in arguments)
    command = [str(python), "-m", "pytest", *arguments, *([] if named else TESTS)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "COMFYUI_PATH": str(comfyui)}, check=False).returncode


def version(comfyui: Path) -> str:
    """As its comfyui_version.py says."""
    found = re.search(r'__version__ = "(.+)"', (comfyui / "comfyui_version.py").read_text(encoding="utf-8"))
    return found[1] if found else "of an unknown version"


def make_environment(comfyui: Path) -> Path:
    """-> its Python. Made from that ComfyUI's list of requirements, and found again by it."""
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    wanted = [line for line in wanted if bootstrap.name_of(line) not in bootstrap.NOT_FROM_LIST]
    folder = HOSTS / hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "longlive-made"
    if not stamp.is_file():
        print(f"making {folder}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
        (packages / "base.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        pip(python, *wanted)
        ensure_torchaudio(python, packages)
        stamp.touch()
    return python


def pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *arguments]
    subprocess.run(command, check=True)


def ensure_torchaudio(python: Path, packages: Path) -> None:
    """Newer versions import it at their top. Its Python part does without the binary one, which may want CUDA."""
    if bootstrap.ask(python, "import torchaudio") is None:
        pip(python, "--no-deps", "torchaudio")
    if bootstrap.ask(python, "import torchaudio") is None:
        for binary in (packages / "torchaudio" / "lib").glob("*.so"):
            binary.unlink()


if __name__ == "__main__":
    sys.exit(main())
