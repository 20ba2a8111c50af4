"""What benchmarks write: where and when, and their figures as JSON."""

from __future__ import annotations

import json
import platform
from datetime import date
from pathlib import Path
from typing import Any


def heading(command: str) -> dict[str, str]:
    """What every result begins with. command: that makes it again."""
    return {"date": date.today().isoformat(), "machine": platform.processor() or platform.machine(), "command": command}


def leave(figures: dict[str, Any], path: Path | None) -> None:
    """Print them, and write them to a file where one is named."""
    print(text := json.dumps(figures, indent=1))
    if path is not None:
        path.write_text(f"{text}\n")
