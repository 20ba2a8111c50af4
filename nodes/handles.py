"""TAKE: what travels between nodes of a take is its name, never its content."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io

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
