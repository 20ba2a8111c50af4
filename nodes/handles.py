"""TAKE: what travels between nodes of a take is its name, never its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..longlive_core.files.fields import shown
from ..longlive_core.takes import TakeStore

TakeType = io.Custom("LONGLIVE_TAKE")


@dataclass(frozen=True)
class TakeHandle:
    """A take in a store. chunks: so many of it count, from its start."""

    folder: str
    id: str
    chunks: int

    def store(self) -> TakeStore:
        """The store, to read in: it may lie on a full or a read-only disk."""
        return TakeStore(self.folder, create=False)


def checked_take(take: Any) -> TakeHandle:
    """ValueError for what is no TAKE: over the API anything may stand in its place."""
    if not isinstance(take, TakeHandle):
        raise ValueError(f"take is {shown(take)}: connect the TAKE of Stream Sampler, Load Take or Branch Take")
    return take
