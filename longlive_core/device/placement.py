"""Offload the caches of a film to main memory while they are not in use.

The transformer and the VAE never run at the same time: the VAE's memory is not in use while a chunk is denoised, and
keys and values are not in use while it is decoded. On a small card one or both can be in main memory during that
time. This moves bytes and changes none: every placement gives the same film, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """Which caches are offloaded to main memory while they are not in use.

    Attributes:
        cache_moves: offload keys and values while a chunk is decoded.
        vae_moves: offload the VAE's memory while a chunk is denoised.
    """

    cache_moves: bool = False
    vae_moves: bool = False

    @property
    def name(self) -> str:
        """The name in reports: resident, cache moves, or cache and VAE memory move."""
        if not (self.cache_moves or self.vae_moves):
            return "resident"
        moving = [what for what, moves in (("cache", self.cache_moves), ("VAE memory", self.vae_moves)) if moves]
        return f"{' and '.join(moving)} move{'s' if len(moving) == 1 else ''}"


RESIDENT = Placement()
# From the fastest to the smallest. Offloading only the VAE's memory would not lower the peak, which is in decoding.
PLACEMENTS = (RESIDENT, Placement(cache_moves=True), Placement(cache_moves=True, vae_moves=True))


class Offloadable(Protocol):
    """Tensors that can be offloaded to main memory: `RollingCache`, `StreamingDecoder`."""

    def offload(self) -> None: ...

    def reload(self) -> None: ...

    @property
    def allocated(self) -> int:
        """Bytes on the device now."""
        ...


class Offloader:
    """Offloads and reloads the caches of transformer and VAE in turn, as a placement specifies.

    Args:
        placement: which caches are offloaded.
        decoder: the VAE's memory.

    Attributes: cache, the keys and values of the current shot; None before the first shot.
    """

    def __init__(self, placement: Placement = RESIDENT, decoder: Offloadable | None = None):
        self.placement, self.decoder = placement, decoder
        self.cache: Offloadable | None = None

    def before_denoising(self) -> None:
        """Prepare the device for the transformer."""
        if self.placement.vae_moves and self.decoder is not None:
            self.decoder.offload()
        if self.cache is not None:
            self.cache.reload()

    def before_decoding(self) -> None:
        """Prepare the device for the VAE."""
        if self.placement.cache_moves and self.cache is not None:
            self.cache.offload()
        if self.decoder is not None:
            self.decoder.reload()

    @property
    def allocated(self) -> int:
        """Bytes on the device now."""
        return sum(part.allocated for part in (self.cache, self.decoder) if part is not None)


def to_main_memory(tensor: Tensor, place: Tensor | None = None) -> Tensor:
    """Copy a tensor to main memory, into `place` if that has its shape and dtype; pinned memory if it is on a GPU."""
    if place is None or place.shape != tensor.shape or place.dtype != tensor.dtype:
        place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
    return place.copy_(tensor)
