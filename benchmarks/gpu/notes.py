"""Results of a step, written to disk at once, so that a step that is ended at its limit still reports them."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Setting:
    """Settings of every step.

    Attributes:
        device: "cuda" or "cpu".
        tiny: tiny shapes, to try the command itself.
        work: a folder for large files; removed afterwards.
        patience: factor for time limits.
    """

    device: str
    tiny: bool
    work: Path
    patience: float = 1.0


class Notes:
    """A dictionary that is written to `path` at every change. Attributes: content."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.content: dict[str, Any] = {}

    def add(self, **entries: Any) -> None:
        """Add results. An underscore in a keyword becomes a blank in the file."""
        self.update({name.replace("_", " "): value for name, value in entries.items()})

    def update(self, entries: dict[str, Any]) -> None:
        self.content.update(entries)
        write_json(self.path, self.content)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file completely or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path) -> dict:
    """Read a JSON file; {} if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def conditions(device: str) -> dict[str, Any]:
    """Return the conditions of a measurement, as PyTorch reports them. This initialises the device."""
    import torch

    found = {"torch": torch.__version__, "python": platform.python_version(), "system": platform.platform()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        return found | {
            "device": properties.name,
            "memory GB": round(properties.total_memory / 1e9, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            "HIP": torch.version.hip,
        }
    return found | {"device": f"{processor()}, {torch.get_num_threads()} threads"}


def processor() -> str:
    import torch

    from longlive_core.run.speed import device_name

    return device_name(torch.device("cpu")).rpartition(",")[0]


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def graphics_card() -> dict[str, str]:
    """Return name, driver, memory, power limit and clocks, as nvidia-smi reports them; {} without nvidia-smi."""
    tool, fields = shutil.which("nvidia-smi"), "name,driver_version,memory.total,power.limit,clocks.sm,clocks.max.sm"
    if tool is None:
        return {}
    try:
        done = subprocess.run(
            [tool, f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    first = done.stdout.strip().splitlines()[:1]
    return dict(zip(fields.split(","), map(str.strip, first[0].split(",")), strict=False)) if first else {}
