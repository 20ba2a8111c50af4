"""The package that `comfy node pack` creates for ComfyUI's registry: tracked files that .comfyignore does not name."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def tracked() -> list[str]:
    """Paths of all tracked files that exist, from the repository's root."""
    return [path for path in _git("ls-files", "-z") if (ROOT / path).is_file()]


def packed() -> list[str]:
    """Paths of the files in the package."""
    left_out = set(_git("ls-files", "-z", "--cached", "--ignored", "--exclude-from=.comfyignore"))
    return [path for path in tracked() if path not in left_out]


def unpack(folder: Path) -> None:
    """Copy the package's files to a folder, as if it had been downloaded and unpacked."""
    for path in packed():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)


def _git(*arguments: str) -> list[str]:
    answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in answer.stdout.split("\0") if path]
