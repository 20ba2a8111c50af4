"""The arguments of `render` and `check` that name the model's files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .weights import add_weights, prefer_ema


def add_files(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("model").add_argument
    add("--model", default="pocket", help="'pocket' (built in) or a file (default: pocket)")
    add("--lora", metavar="PATH", help="LongLive's LoRA, merged into the model")
    add("--lora-strength", type=float, default=1.0, metavar="X", help="of the merged LoRA (default 1)")
    add("--lora-alpha", type=float, metavar="X", help="alpha of a LoRA whose file states none (default: its rank)")
    add_weights(parser)
    add("--text-encoder", metavar="PATH")
    add("--vae", metavar="PATH")
    add("--preset", metavar="NAME", help="settings: longlive-1.3b, self-forcing or pocket (default: by the model)")
    add("--dtype", choices=("auto", "bf16", "fp16", "fp32"), default="auto")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ... (default: auto)")


def file_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of Pipeline.load and of check."""
    idle = [
        name
        for name, given in (
            ("--lora-strength", options.lora_strength != 1.0),
            ("--lora-alpha", options.lora_alpha is not None),
        )
        if given
    ]
    if options.lora is None and idle:
        print(f"note: {' and '.join(idle)} has no effect without --lora", file=sys.stderr)
    names = ("model", "lora", "text_encoder", "vae", "dtype", "device", "preset", "lora_strength", "lora_alpha")
    return {**{name: getattr(options, name) for name in names}, "prefer_ema": prefer_ema(options)}
