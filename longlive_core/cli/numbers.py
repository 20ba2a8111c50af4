"""Numbers as the commands' arguments take them."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return the whole number above 0 that a text gives; ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)
