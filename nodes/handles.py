"""TAKE: nodes pass on a take's name, never its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..longlive_core.files.fields import short_repr
from ..longlive_core.takes import TakeStore

TakeType = io.Custom("LONGLIVE_TAKE")


@dataclass(frozen=True)
class TakeHandle:
    """A take in a store. chunks: how many of its chunks count, from its start."""

    folder: str
    id: str
    chunks: int

    def store(self) -> TakeStore:
        """Open the store for reading only: it may be on a full or read-only disk."""
        return TakeStore(self.folder, create=False)


def checked_take(take: Any) -> TakeHandle:
    """Return `take`. Raises ValueError if it is not a TAKE: over the API it can be any value."""
    if not isinstance(take, TakeHandle):
        raise ValueError(f"take is {short_repr(take)}: connect the TAKE of Stream Sampler, Load Take or Branch Take")
    return take
