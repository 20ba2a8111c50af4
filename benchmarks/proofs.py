"""Cost of the checksum in every stored chunk, at a film's real shapes.

    python -m benchmarks.proofs --json docs/results/takes_proofs.json

Milliseconds per chunk, median of many, for bytes in memory: the disk is the same with and without checksums.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load, save

from benchmarks.figures import heading, write_figures
from longlive_core.film.video import Encoding, encode_unit
from longlive_core.takes.checksums import UnitInfo, latents_file, read_latents, read_unit, unit_file

KEY, RUNS = "k" * 32, 101


def milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(1000 * statistics.median(times), 3)


def noisy_unit(size: tuple[int, int]) -> bytes:
    """Encode a unit of 12 frames as large as one of a lively film."""
    coarse = np.random.default_rng(0).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    frames = np.stack([np.kron(np.roll(coarse, 3 * shift, 1), np.ones((8, 8, 1), np.uint8)) for shift in range(12)])
    return encode_unit(frames, Encoding(*size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="832x480")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    size = tuple(int(side) for side in options.size.split("x"))
    torch.set_num_threads(1)
    shape = (3, size[1] // 8, size[0] // 8)
    latents, video = torch.randn(1, 16, *shape).bfloat16(), noisy_unit(size)
    facts = UnitInfo(KEY, "unit", 12, size)
    stored, unit, plain = latents_file(KEY, latents), unit_file(facts, video), save({"latents": latents}, {"key": KEY})
    figures = {
        **heading(f"python -m benchmarks.proofs --size {options.size}"),
        "size": list(size),
        "bytes": {
            "latents": len(stored),
            "unit": len(unit),
            "proof of latents": len(stored) - len(plain),
            "proof of a unit": len(unit) - len(video),
        },
        "milliseconds": {
            "write latents": milliseconds(lambda: latents_file(KEY, latents)),
            "write latents without": milliseconds(lambda: save({"latents": latents}, {"key": KEY})),
            "read latents": milliseconds(lambda: read_latents(stored, KEY, shape)),
            "read latents without": milliseconds(lambda: load(plain)),
            "write a unit": milliseconds(lambda: unit_file(facts, video)),
            "read a unit": milliseconds(lambda: read_unit(unit, facts)),
        },
    }
    write_figures(figures, options.json)


if __name__ == "__main__":
    main()
