"""Sizes in bytes and durations as text."""

from __future__ import annotations

import argparse
import re

_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([kmgt]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def gigabytes(size: int) -> str:
    """Return a size such as "1.5 GB", "20 MB" or "4 kB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def parse_size(text: str) -> int:
    """Return the bytes of "20GB", "1.5 GiB", "500MB" or "1000000".

    Raises ArgumentTypeError for anything else, and for 0.
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0
    if match:
        number, prefix, binary = match.groups()
        size = int(float(number) * (1024 if binary else 1000) ** _POWERS[prefix.lower()])
    if size < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write it like 20GB, 500MB, or in bytes")
    return size


def seconds_text(seconds: float) -> str:
    """Return a time such as "0 s", "4.5 s" or "11.81 s"."""
    return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"


def duration_text(seconds: float) -> str:
    """Return a rounded duration such as "40 s", "12 min" or "3 h 20 min"."""
    if seconds < 99.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
