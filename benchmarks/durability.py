"""Cost per chunk of surviving a loss of power, on the disk of a folder.

    python -m benchmarks.durability FOLDER --json docs/results/takes_durability.json

Milliseconds for the two files of a chunk at 832x480, the median of many. The ways take turns, since other programs
write to the disk, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from datetime import date
from pathlib import Path

from longlive_core.takes.disk import sync, write_whole

LATENTS, UNIT = 600_000, 43_000  # bytes
RUNS = 300
NEW, OLD = "in a new folder", "in a folder that is there"


def unsynced(folder: Path, files: dict[str, bytes]) -> None:
    """Write as a program that syncs nothing."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.tmp").write_bytes(data)
        os.replace(folder / f"{name}.tmp", folder / name)


def bytes_synced(folder: Path, files: dict[str, bytes]) -> None:
    """Sync contents but no names, as earlier versions did; a new folder may be lost too."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        write_whole(folder / name, data, synced=False)


def once(folder: Path, files: dict[str, bytes]) -> None:
    """Write as a render does."""
    for name, data in files.items():
        write_whole(folder / name, data, synced=False)
    sync(folder)


def each(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        write_whole(folder / name, data)


WAYS = {
    "nothing synced": unsynced,
    "bytes synced": bytes_synced,
    "bytes and names synced, once a chunk": once,
    "bytes and names synced, for each file": each,
}


def measure(base: Path) -> dict[str, dict[str, float]]:
    """Return milliseconds by way of writing and kind of folder."""
    found = {way: {NEW: [], OLD: []} for way in WAYS}
    for run in range(RUNS):
        files = {f"{run}.safetensors": os.urandom(LATENTS), f"{run}.mp4": os.urandom(UNIT)}
        for way, write in WAYS.items():
            for kind, name in ((NEW, f"{way} {run}"), (OLD, way)):
                (base / kind).mkdir(exist_ok=True)
                began = time.perf_counter()
                write(base / kind / name, files)
                found[way][kind].append(1000 * (time.perf_counter() - began))
    return {
        way: {kind: round(statistics.median(times[10:]), 2) for kind, times in kinds.items()}
        for way, kinds in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", type=Path, help="a folder on the disk to measure; the new folder in it is removed afterwards"
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        milliseconds = measure(base)
    finally:
        shutil.rmtree(base)
    figures = {
        "date": date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "system": platform.system(),
        "command": "python -m benchmarks.durability FOLDER",
        "what": f"two files of {LATENTS} and {UNIT} bytes; median of {RUNS}",
        "milliseconds": milliseconds,
    }
    print(text := json.dumps(figures, indent=1))
    if options.json is not None:
        options.json.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
