"""Where a film's caches lie, and when.

Transformer and VAE never run at once: while a chunk is denoised nobody reads what the VAE remembers, and while it is
decoded nobody reads keys and values. So on a small card one or both of them rest in main memory meanwhile. That moves
bytes and changes none: every placement gives the same film, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """What rests in main memory while it is not needed.

    Attributes:
        cache_moves: keys and values, while a chunk is decoded.
        vae_moves: the VAE's memory, while a chunk is denoised.
    """

    cache_moves: bool = False
    vae_moves: bool = False

    @property
    def name(self) -> str:
        """For reports: resident, cache moves, or cache and VAE memory move."""
        if not (self.cache_moves or self.vae_moves):
            return "resident"
        moving = [what for what, moves in (("cache", self.cache_moves), ("VAE memory", self.vae_moves)) if moves]
        return f"{' and '.join(moving)} move{'s' if len(moving) == 1 else ''}"


RESIDENT = Placement()
# From the fastest to the smallest. To move the VAE's memory alone would not lower the peak, which is in decoding.
PLACEMENTS = (RESIDENT, Placement(cache_moves=True), Placement(cache_moves=True, vae_moves=True))


class Offloadable(Protocol):
    """Tensors that can rest in main memory: `RollingCache`, `StreamingDecoder`."""

    def offload(self) -> None: ...

    def reload(self) -> None: ...

    @property
    def allocated(self) -> int:
        """Bytes that they take on the device now."""
        ...


class Offloader:
    """Gives the device to the transformer and to the VAE in turn, as a placement says.

    Args:
        placement: which of them rest in between.
        decoder: what the VAE remembers.

    Attributes: cache, the keys and values of the shot that is made; None before there are any.
    """

    def __init__(self, placement: Placement = RESIDENT, decoder: Offloadable | None = None):
        self.placement, self.decoder = placement, decoder
        self.cache: Offloadable | None = None

    def before_denoising(self) -> None:
        """From here on the transformer runs."""
        if self.placement.vae_moves and self.decoder is not None:
            self.decoder.offload()
        if self.cache is not None:
            self.cache.reload()

    def before_decoding(self) -> None:
        """From here on the VAE runs."""
        if self.placement.cache_moves and self.cache is not None:
            self.cache.offload()
        if self.decoder is not None:
            self.decoder.reload()

    @property
    def allocated(self) -> int:
        """Bytes on the device now."""
        return sum(part.allocated for part in (self.cache, self.decoder) if part is not None)


def to_main_memory(tensor: Tensor, place: Tensor | None = None) -> Tensor:
    """A copy of a device's tensor in main memory, in `place` where that has its shape; pinned where that is faster."""
    if place is None or place.shape != tensor.shape or place.dtype != tensor.dtype:
        place = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
    return place.copy_(tensor)
