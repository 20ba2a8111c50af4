"""Cost of scanning a large store, and of cleaning it, before a render.

    python -m benchmarks.takes_room --json docs/results/takes_room.json

Seconds of this process's processor time, the least of several, with the folder in the system's cache; the files are
small, since only their names, sizes and times are read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import heading, write_figures
from longlive_core.config import StreamConfig
from longlive_core.takes import Manifest, Origin, TakeStore
from longlive_core.takes.inventory import take_inventory
from longlive_core.takes.manifest import take_id
from longlive_core.timeline import parse, plan_text

RUNS, TEXT, UNIT = 7, "0s A red ball bounces on a meadow.", "0" * 8


def take(number: int, chunks: int) -> Manifest:
    plan = parse(TEXT).plan((12 * chunks - 3) / 16)
    shots = [[f"{number % 256:02x}{number:06x}{chunk:024x}" for chunk in range(chunks)]]
    origin = Origin("model", "text", "float32", StreamConfig(), (832, 480), 0).as_json()
    return Manifest(
        take_id(shots, UNIT),
        TEXT,
        plan_text(plan),
        origin,
        [{"chunk": 0, "transition": "recache", "text": TEXT[3:]}],
        shots,
        {"width": 832, "height": 480, "fps": 16.0, "crf": 18},
        UNIT,
        96,
    )


def fill(store: TakeStore, takes: int, chunks: int) -> Manifest:
    """Fill a store and return the newest take."""
    for number in range(takes):
        made = take(number, chunks)
        store.write_manifest(made)
        for name in (".lock", "film.mp4"):
            (store.take_folder(made.id) / name).write_bytes(b"")
        for key in made.keys:
            for path in (store.latents_path(key), store.unit_path(key, UNIT)):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"x")
    return made


def seconds(work: Callable[[], object]) -> float:
    found = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return round(min(found), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--takes", type=int, default=1000)
    parser.add_argument("--chunks", type=int, default=10, help="chunks per take, two files each")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = TakeStore(folder)
        newest = fill(store, options.takes, options.chunks)
        figures = {
            **heading(f"python -m benchmarks.takes_room --takes {options.takes} --chunks {options.chunks}"),
            "takes": options.takes,
            "files of chunks": 2 * options.takes * options.chunks,
            "seconds": {
                "its size": seconds(store.size),
                "inventory": seconds(lambda: take_inventory(store)),
                "what fills it, for the estimate": seconds(lambda: store.usage(newest)),
                "clean it, and make room": seconds(lambda: store.make_room(0, newest)),
            },
        }
    write_figures(figures, options.json)


if __name__ == "__main__":
    main()
