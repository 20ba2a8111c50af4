"""What a card stalls for or refuses, and the line of code that caused it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
HERE, TORCH = str(Path(__file__).resolve().parent), str(Path(torch.__file__).parent)
PACK = (str(ROOT / "longlive_core"), str(ROOT / "nodes"))


@dataclass(frozen=True)
class Event:
    """An operation that a card would stall for or refuse.

    kind: "wait", "upload", "download" or "float64". place: the line that caused it; within: the pack's functions
    around it, such as "Shot.next_chunk", outermost first. own: whether that line is one of the pack's.
    """

    kind: str
    operation: str
    place: str
    within: tuple[str, ...]
    own: bool

    def __str__(self):
        return f"{self.kind} by {self.operation} in {self.place}"


@cache
def _is_torch(path: str) -> bool:
    return path.startswith((HERE, TORCH)) or not path.endswith(".py")


def calling_line() -> tuple[str, tuple[str, ...], bool]:
    """Return the nearest line outside PyTorch, the pack's functions that led to it, and whether it is the pack's."""
    frame, nearest, chain, own = sys._getframe(2), "the test", [], False
    while frame is not None:
        path = frame.f_code.co_filename
        if not _is_torch(path):
            name = frame.f_code.co_name
            if nearest == "the test":
                place = "/".join(Path(path).parts[-2:])
                nearest, own = f"{place}:{frame.f_lineno} {name}", path.startswith(PACK)
            if path.startswith(PACK):
                owner = frame.f_locals.get("self")
                chain.append(name if owner is None else f"{type(owner).__name__}.{name}")
        frame = frame.f_back
    return nearest, tuple(reversed(chain)), own
