"""Run one step in this process: python -m benchmarks.gpu.step NAME --json FILE --work FOLDER [--tiny] [--device cpu]

The parent (`runner.py`) starts it, ends it at its limit, and reads the file.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from . import steps
from .notes import Notes, Setting, conditions


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--patience", type=float, default=1.0)
    options = parser.parse_args(arguments)
    step, notes = steps.step(options.name), Notes(options.json)
    try:
        notes.add(conditions=conditions(options.device))
        module = importlib.import_module(f"{__package__}.{step.module}")
        module.run(Setting(options.device, options.tiny, options.work, options.patience), notes, *step.arguments)
    except Exception as error:  # any error is part of the report
        traceback.print_exc()
        notes.add(error=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
