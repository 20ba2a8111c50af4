"""The memory of a film on each card: the placement that is chosen, and the gigabytes, computed from shapes alone.

    python -m benchmarks.memory_plans

Prints the tables of docs/devices.md. Nothing is loaded: models of the real shapes are on PyTorch's `meta` device.
`--taken` is the memory of a card that is not available: CUDA's context, a desktop, and what ComfyUI keeps free.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

from benchmarks.rollout import DTYPES, MODELS, Preset
from longlive_core.config import StreamConfig
from longlive_core.device.placement import PLACEMENTS
from longlive_core.model import CausalWan, WanModel
from longlive_core.run.memory import Need, estimate
from longlive_core.timeline import parse
from longlive_core.vae import StreamingDecoder, WanVAE
from longlive_core.words.quantities import gigabytes

CARDS = (24, 16, 12, 10, 8, 6)  # GiB
SIZES = ((832, 480), (624, 352))
GPU = torch.device("cuda")


def needed(preset: Preset, dtype: torch.dtype, size: tuple[int, int], int8: bool) -> Need:
    """Return the need of a film with LongLive's settings and a prompt switch after the window is full."""
    with torch.device("meta"):
        model, vae = WanModel(preset.model).to(dtype), WanVAE(preset.vae_dim).to(dtype)
    causal, decoder = CausalWan(model, preset.model), StreamingDecoder(vae)
    need = estimate(causal, decoder, parse("0s a\n10s b").plan(20), StreamConfig(), size)
    if not int8:
        return need
    weights = need.weights - need.saved_by_int8
    return replace(need, weights=weights, full_weights=weights, saved_by_int8=0)


def row(card: int, taken: float, size: tuple[int, int], name: str, need: Need) -> str:
    free = card * 2**30 - taken
    need = need.placed(GPU, free)
    if need.run > free:
        what, total = "does not fit", "-"
    elif need.total > free:
        what, total = f"{need.placement.name}; ComfyUI keeps {gigabytes(need.total - free)} of weights away", free
    else:
        what, total = need.placement.name, need.total
    return (
        f"| {card} GB | {size[0]}x{size[1]} | {name} | {what} | {gigabytes(need.moving)} | "
        f"{total if total == '-' else gigabytes(int(total))} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=MODELS, default="longlive-1.3b")
    parser.add_argument("--taken", type=float, default=1.0, help="gigabytes of each card that are not available")
    args = parser.parse_args()
    print("| card | size | weights | placement | moves | on the card |\n|---|---|---|---|---|---|")
    needs = {}
    for size in SIZES:
        for name, int8 in (("bf16", False), ("INT8", True)):
            needs[size, name] = needed(MODELS[args.preset], DTYPES["bf16"], size, int8)
    for card in CARDS:
        for (size, name), need in needs.items():
            print(row(card, args.taken * 1e9, size, name, need))
    print()
    for (size, name), need in needs.items():
        runs = ", ".join(f"{where.name} {gigabytes(replace(need, placement=where).total)}" for where in PLACEMENTS)
        print(
            f"{size[0]}x{size[1]} {name}: {need.describe()}: {runs}; pass {gigabytes(need.passes)}, decoding "
            f"{gigabytes(need.decoding)}"
        )


if __name__ == "__main__":
    main()
