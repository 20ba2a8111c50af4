"""`convert`: a checkpoint rewritten for ComfyUI's own loaders."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..words.wording import count
from .weights import add_weights, prefer_ema


def add_convert(convert: argparse.ArgumentParser) -> None:
    add = convert.add_argument
    add("source", metavar="IN", help="diffusion model, or with --lora a LoRA")
    add("target", metavar="OUT.safetensors")
    add("--lora", action="store_true", help="IN is a LoRA")
    add("--alpha", type=float, help="alpha of a LoRA whose file states none")
    add("--merge", metavar="LORA", help="merge this LoRA into the model")
    add("--strength", type=float, help="of the merged LoRA (default 1)")
    add_weights(convert)
    add("--int8", action="store_true", help="quantise the blocks' linear layers (docs/int8.md)")
    convert.set_defaults(run=run_convert)


def run_convert(options: argparse.Namespace) -> None:
    from ..checkpoints import convert_lora, convert_model

    _check_options(options)
    if options.lora:
        target = convert_lora(options.source, options.target, alpha=options.alpha)
    else:
        target = convert_model(
            options.source,
            options.target,
            lora=options.merge,
            lora_alpha=options.alpha,
            strength=1.0 if options.strength is None else options.strength,
            int8=options.int8,
            prefer_ema=prefer_ema(options),
        )
    print(f"wrote {target}{_int8_note(target) if options.int8 else ''}")


def _check_options(options: argparse.Namespace) -> None:
    """Raise ValueError for options that would have no effect."""
    given = {
        "--merge": options.merge is not None,
        "--weights": prefer_ema(options) is not None,
        "--int8": options.int8,
        "--strength": options.strength is not None,
    }
    idle = next((name for name, there in given.items() if there and options.lora), None)
    if idle is not None:
        raise ValueError(f"{idle} needs a diffusion model, but --lora says that IN is a LoRA")
    if options.merge is None and options.strength is not None:
        raise ValueError(
            f"--strength {options.strength:g} is of a LoRA to merge: give it with --merge LORA, or leave it out"
        )
    if options.merge is None and not options.lora and options.alpha is not None:
        raise ValueError(
            f"--alpha {options.alpha:g} is a LoRA's: give that with --merge LORA, or convert a LoRA with --lora"
        )


def _int8_note(path: Path) -> str:
    from ..checkpoints import read_file
    from ..quant import block_linear_bytes, int8_layers

    weights, _ = read_file(path)
    size = block_linear_bytes(weights) / 2**20
    return f" (INT8: {count(len(int8_layers(weights)), 'layer')} of the blocks, {size:.1f} MB)"
