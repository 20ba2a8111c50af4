"""The packages that the steps import: those of the environment, else those of a pack (`scripts/gpu_pack`).

A pack is a folder of archives, one a package and one with a ComfyUI, and a manifest. Only what is missing is unpacked,
into the run's own folder. Nothing is installed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .notes import read_json
from .steps import Step

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / ".cache" / "gpu_pack"
MANIFEST = "manifest.json"
# Module: the package that contains it. Their dependencies are in this table, or come with PyTorch and transformers.
PACKAGES = {
    "av": "av",
    "PIL": "pillow",
    "pytest": "pytest",
    "pluggy": "pluggy",
    "iniconfig": "iniconfig",
    "aiohttp": "aiohttp",
    "yarl": "yarl",
    "multidict": "multidict",
    "frozenlist": "frozenlist",
    "propcache": "propcache",
    "aiosignal": "aiosignal",
    "aiohappyeyeballs": "aiohappyeyeballs",
    "attr": "attrs",
    "einops": "einops",
    "psutil": "psutil",
    "torchsde": "torchsde",
    "trampoline": "trampoline",
    "websocket": "websocket-client",
}


@dataclass(frozen=True)
class Environment:
    """The environment of the steps' processes.

    Attributes:
        variables: their environment.
        sources: by module, "environment" or the pack's package and version; a missing module is left out.
        comfyui: ComfyUI's folder, or None.
        commit: of this repository, if it is known.
        trouble: why an existing pack that is needed was not used, or empty.
    """

    variables: dict[str, str]
    sources: dict[str, str]
    comfyui: Path | None
    commit: str
    trouble: str = ""

    def missing(self, step: Step) -> list[str]:
        """Return the modules that a step needs and that are missing."""
        lacking = [PACKAGES[module] for module in step.needs if module in PACKAGES and module not in self.sources]
        return lacking + (["ComfyUI (COMFYUI_PATH=FOLDER names yours)"] if step.comfyui and not self.comfyui else [])


def prepare(pack: Path, work: Path) -> Environment:
    """Unpack into `work` those packages of `pack` that are missing here. The pack may be missing."""
    manifest = read_json(pack / MANIFEST)
    trouble = _unfit(manifest)
    packages = {} if trouble else manifest.get("packages", {})
    sources = {module: "environment" for module in PACKAGES if importlib.util.find_spec(module)}
    site = work / "site"
    for module, name in PACKAGES.items():
        if module not in sources and name in packages:
            unpack(pack / packages[name]["archive"], site)
            sources[module] = f"pack: {name} {packages[name]['version']}"
    paths = [str(ROOT), *([str(site)] if site.is_dir() else []), os.environ.get("PYTHONPATH", "")]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUTF8": "1",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    comfyui = find_comfyui() or _unpack_comfyui(pack, manifest, work)
    if comfyui is not None:
        variables["COMFYUI_PATH"] = str(comfyui)
    trouble = trouble if len(sources) < len(PACKAGES) else ""
    return Environment(variables, sources, comfyui, commit() or manifest.get("commit", "unknown"), trouble)


def _unfit(manifest: dict[str, Any]) -> str:
    """Return why a pack's packages cannot be imported here, or "" if they can or there are none."""
    made_for, here = manifest.get("made for"), this_python()
    return f"the pack was made for {made_for}, this is {here}" if manifest and made_for != here else ""


def this_python() -> str:
    return python_name(".".join(map(str, sys.version_info[:2])), f"{platform.system()} {platform.machine()}")


def python_name(version: str, system: str = "Linux x86_64") -> str:
    return f"Python {version}, {system}"


def unpack(archive: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(target, filter="data")
        else:
            tar.extractall(target)


def find_comfyui() -> Path | None:
    """Return COMFYUI_PATH, the ComfyUI in whose custom_nodes this pack is, or the copy that scripts/setup created."""
    given = os.environ.get("COMFYUI_PATH")
    candidates = [Path(given)] if given else [ROOT.parent.parent, ROOT / ".comfyui" / "ComfyUI"]
    return next((folder.resolve() for folder in candidates if is_comfyui(folder)), None)


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfyui_version.py").is_file()


def _unpack_comfyui(pack: Path, manifest: dict[str, Any], work: Path) -> Path | None:
    if "comfyui" not in manifest:
        return None
    unpack(pack / manifest["comfyui"]["archive"], work)
    return work / "ComfyUI"


def commit() -> str | None:
    """Return the commit of this checkout, with a mark if files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
