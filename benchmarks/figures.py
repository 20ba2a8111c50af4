"""Results of benchmarks as JSON: date, machine, command and figures."""

from __future__ import annotations

import json
import platform
from datetime import date
from pathlib import Path
from typing import Any


def heading(command: str) -> dict[str, str]:
    """Return the first entries of every result. command: reproduces it."""
    return {"date": date.today().isoformat(), "machine": platform.processor() or platform.machine(), "command": command}


def write_figures(figures: dict[str, Any], path: Path | None) -> None:
    """Print figures, and write them to a file if a path is given."""
    print(text := json.dumps(figures, indent=1))
    if path is not None:
        path.write_text(f"{text}\n")
