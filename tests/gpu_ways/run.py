"""Render the films of some cases in a process of its own, since the changes to ComfyUI must not affect other tests.

    python -m tests.gpu_ways.run FOLDER CASE...

Prints a line of JSON per case: {"case": ..., what `Studio.film` finds} or {"case": ..., "raised": ...}.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path

import torch

from .cases import Case
from .films import Studio, Unavailable


def main() -> None:
    folder, *names = sys.argv[1:]
    torch.set_num_threads(1)
    studio = Studio(Path(folder))
    for name in names:
        began = time.perf_counter()
        try:
            found = studio.film(Case.named(name))
        except Unavailable as reason:
            found = {"skipped": str(reason)}
        except Exception:
            found = {"raised": traceback.format_exc(limit=-6)}
        print(json.dumps({"case": name, **found, "seconds": round(time.perf_counter() - began, 2)}), flush=True)


if __name__ == "__main__":
    main()
