"""Measure the memory of a run at a model's real shapes, next to what `run.memory.estimate` predicts.

    python -m benchmarks.memory_shapes --chunks 2 --steps 1 --json docs/results/memory_shapes.json

Weights are random, see `benchmarks.rollout`. The number of steps does not matter for memory: every pass needs the same,
so `--steps 1` saves time. On a CPU the peak is that of the whole process, so the memory before the model was built is
printed too; on a GPU it is what PyTorch allocated.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from benchmarks.rollout import DTYPES, MODELS, build, peak_memory_mb
from longlive_core.config import PRESETS, StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.film.decoding import film_frames
from longlive_core.film.video import Encoding, encode_unit
from longlive_core.run.memory import Need, estimate
from longlive_core.timeline import parse

MIB = 2**20


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=MODELS, default="longlive-1.3b")
    parser.add_argument("--size", help="such as 832x480; the preset's own by default")
    parser.add_argument("--layers", type=int, help="fewer than the preset has, if they do not fit")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16", help="slow on a CPU that only emulates it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def render(model, decoder, context, size: tuple[int, int], chunks: int, stream: StreamConfig) -> list[float]:
    """Render a film without storing it; return the seconds of each chunk."""
    made = rollout(model, [PromptSpan(0, context)], chunks, (size[1] // 8, size[0] // 8), stream, AddressedNoise(0))
    seconds, last = [], time.perf_counter()
    for _, frames in film_frames(made, decoder):
        encode_unit(frames, Encoding(*size))
        now = time.perf_counter()
        seconds.append(round(now - last, 1))
        last = now
        peak = peak_memory_mb(model.device.type)
        print(f"chunk {len(seconds)}: {seconds[-1]} s, peak {peak:.0f} MB", file=sys.stderr, flush=True)
    return seconds


def in_mb(need: Need) -> dict[str, float]:
    parts = {
        "weights": need.weights,
        "keys and values": need.cache,
        "VAE's memory": need.vae,
        "activations": need.work,
        "total": need.total,
    }
    return {name: round(size / MIB, 1) for name, size in parts.items()}


def main() -> None:
    args = arguments()
    preset = MODELS[args.preset]
    if args.layers:
        preset = replace(preset, model=replace(preset.model, num_layers=args.layers))
    size = tuple(map(int, args.size.split("x"))) if args.size else (preset.width, preset.height)
    stream = replace(PRESETS[args.preset], denoising_steps=StreamConfig.even_steps(args.steps))
    plan = parse("0s text").plan(None, chunks=args.chunks)
    torch.manual_seed(0)
    with torch.inference_mode():
        before = peak_memory_mb(args.device)
        model, decoder = build(preset, args.device, DTYPES[args.dtype])
        built = peak_memory_mb(args.device)
        need = estimate(model, decoder, plan, stream, size)
        context = torch.randn(1, preset.text_tokens, preset.model.text_dim)
        seconds = render(model, decoder, context, size, args.chunks, stream)
    peak = peak_memory_mb(args.device)
    report = {
        "date": date.today().isoformat(),
        "command": "python -m benchmarks.memory_shapes " + " ".join(sys.argv[1:]),
        "device": torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.processor() or "CPU",
        "torch": torch.__version__,
        "layers": preset.model.num_layers,
        "size": f"{size[0]}x{size[1]}",
        "peak MB": {"before the model": round(before, 1), "weights built": round(built, 1), "film": round(peak, 1)},
        "estimate MB": in_mb(need),
        "measured / estimate": round((peak - before) / (need.total / MIB), 3),
        "seconds per chunk": seconds,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
