"""`--weights`: which of a file's two sets is taken, the weights or their moving average."""

from __future__ import annotations

import argparse
import sys

from .weight_sets import CHOICES


def add_weights(parser: argparse.ArgumentParser) -> None:
    """`--weights`, and `--prefer-ema`, which says the same."""
    parser.add_argument("--weights", choices=tuple(CHOICES), default="auto", help="of a file that holds the weights and their "
                        "moving average (default: auto, the weights, or the average where only that is there)")
    parser.add_argument("--prefer-ema", action=argparse.BooleanOptionalAction, help="the same as --weights "
                        "generator_ema, or generator")  # fmt: skip


def prefer_ema(options: argparse.Namespace) -> bool | None:
    """The choice as loaders take it. ValueError where the two options contradict each other."""
    chosen = CHOICES[options.weights]
    if None not in (chosen, options.prefer_ema) and chosen != options.prefer_ema:
        raise ValueError(f"--weights {options.weights} and --{'' if options.prefer_ema else 'no-'}prefer-ema contradict "
                         "each other: give one of them")  # fmt: skip
    return options.prefer_ema if chosen is None else chosen


def tell_weights(model: str, options: argparse.Namespace) -> None:
    """Say on stderr which set was taken, where a model's file has two."""
    from .checkpoints.models import chosen_weights
    from .pipeline import model_file

    told = chosen_weights(model_file(model), prefer_ema(options)).describe(model)
    if told is not None:
        print(f"{told} (--weights)", file=sys.stderr)
