"""Run the tests with any ComfyUI, each version in a separate environment. Run it with scripts/test_host.

COMFYUI_PATH=FOLDER test_host [arguments of pytest]

Without a file among the arguments, tests/comfy, tests/hosts and tests/gpu_ways run.

The environment is created once, in .cache/hosts. It sees the packages of .venv; other requirements of that ComfyUI,
except PyTorch, are installed into it. .venv is not changed. HOST_PYTHON=PYTHON uses an existing Python instead.
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
        sys.exit(f"COMFYUI_PATH is '{given}', which has no main.py; give the folder of a ComfyUI")
    python = os.environ.get("HOST_PYTHON") or make_environment(comfyui)
    print(f"ComfyUI {version(comfyui)} in {comfyui}, {python}", flush=True)
    arguments = sys.argv[1:]
    named = any((ROOT / argument.partition("::")[0]).exists() for argument in arguments)
    command = [str(python), "-m", "pytest", *arguments, *([] if named else TESTS)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "COMFYUI_PATH": str(comfyui)}, check=False).returncode


def version(comfyui: Path) -> str:
    """Return the version in its comfyui_version.py."""
    found = re.search(r'__version__ = "(.+)"', (comfyui / "comfyui_version.py").read_text(encoding="utf-8"))
    return found[1] if found else "of unknown version"


def make_environment(comfyui: Path) -> Path:
    """Create the environment for that ComfyUI's requirements, or find it, and return its Python."""
    lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    wanted = [line for line in wanted if bootstrap.name_of(line) not in bootstrap.NOT_FROM_LIST]
    folder = HOSTS / hashlib.sha256("\n".join(wanted).encode()).hexdigest()[:12]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "longlive-made"
    if not stamp.is_file():
        print(f"creating {folder}", flush=True)
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
    """Install torchaudio, which newer versions import at the top. If its binary part fails (it may need CUDA), remove
    that."""
    if bootstrap.ask(python, "import torchaudio") is None:
        pip(python, "--no-deps", "torchaudio")
    if bootstrap.ask(python, "import torchaudio") is None:
        for binary in (packages / "torchaudio" / "lib").glob("*.so"):
            binary.unlink()


if __name__ == "__main__":
    sys.exit(main())
