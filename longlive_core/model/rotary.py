"""Wan's three-axis rotary embedding, with the time positions of the tokens given from outside.

A head of D numbers is D / 2 pairs; the pairs are shared out among time, height and width
(Wan 2.1, section 4.2.1; D = 128 gives 22 + 21 + 21). Angles are made in float64, applied in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

THETA = 10000.0
Table = tuple[Tensor, Tensor]  # cosine and sine, each [L, 1, D / 2], float32


def _angles(positions: Tensor, pairs: int) -> Tensor:
    """[P] positions -> [P, pairs] angles."""
    exponents = torch.arange(pairs, dtype=torch.float64) / pairs
    return torch.outer(positions.double(), THETA**-exponents)


def apply(x: Tensor, table: Table) -> Tensor:
    """Rotate queries or keys x [B, L, N, D] (pairs of neighbours) by a table for L tokens; dtype as x."""
    cos, sin = table
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # each [B, L, N, D/2]
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)


class Rotary:
    """Tables for one latent size on one device.

    Args:
        head_dim: D, even.
        grid: tokens of a frame, (height, width), after patching.
    """

    def __init__(self, head_dim: int, grid: tuple[int, int], device: torch.device):
        pairs = head_dim // 2
        self.spatial_pairs = pairs // 3
        self.time_pairs = pairs - 2 * self.spatial_pairs
        self.grid, self.device = grid, device
        self._height = _angles(torch.arange(grid[0]), self.spatial_pairs)[None, :, None]
        self._width = _angles(torch.arange(grid[1]), self.spatial_pairs)[None, None]
        self._last: tuple[tuple[int, ...], Table] | None = None

    def table(self, positions: Sequence[int]) -> Table:
        """Table for whole frames at these time positions, in this order: L = len(positions) * height * width."""
        key = tuple(positions)
        if self._last is None or self._last[0] != key:  # every layer of a pass asks for the same one
            self._last = (key, self._make(key))
        return self._last[1]

    def _make(self, positions: tuple[int, ...]) -> Table:
        shape = (len(positions), *self.grid)
        time = _angles(torch.tensor(positions), self.time_pairs)[:, None, None]
        parts = (time, self._height, self._width)
        angles = torch.cat([part.expand(*shape, -1) for part in parts], dim=-1).flatten(0, 2)[:, None]
        return angles.cos().float().to(self.device), angles.sin().float().to(self.device)
