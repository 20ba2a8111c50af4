"""`--weights`: which of a file's two sets is loaded, the weights or their moving average."""

from __future__ import annotations

import argparse

from ..config import WEIGHT_SETS


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add `--weights`, and `--prefer-ema`, which has the same meaning."""
    add = parser.add_argument
    add(
        "--weights",
        choices=tuple(WEIGHT_SETS),
        default="auto",
        help="of a file that holds the weights and their "
        "moving average (default: auto, the weights, or the average where only that is there)",
    )
    add("--prefer-ema", action=argparse.BooleanOptionalAction, help="the same as --weights generator_ema, or generator")


def prefer_ema(options: argparse.Namespace) -> bool | None:
    """Return the choice as loaders accept it. Raises ValueError if the two options contradict each other."""
    chosen = WEIGHT_SETS[options.weights]
    if None not in (chosen, options.prefer_ema) and chosen != options.prefer_ema:
        raise ValueError(f"--weights {options.weights} and --prefer-ema ask for different sets: give one of them")
    return options.prefer_ema if chosen is None else chosen
