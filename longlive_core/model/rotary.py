"""Wan's three-axis rotary embedding; the caller gives the time positions of the tokens.

A head of D numbers is D / 2 pairs; the pairs are split among time, height and width
(Wan 2.1, section 4.2.1; D = 128 gives 22 + 21 + 21). Angles are computed in float64 and applied in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..device.transfer import send

THETA = 10000.0
FIRST_POSITIONS = 1024  # of the time axis, computed at once: as many as absolute positions allow
Table = tuple[Tensor, Tensor]  # cosine and sine, each [L, 1, D / 2], float32


def _angles(positions: Tensor, pairs: int) -> Tensor:
    """Return the angles [P, pairs] of positions [P]."""
    exponents = torch.arange(pairs, dtype=torch.float64) / pairs
    return torch.outer(positions.double(), THETA**-exponents)


def apply(x: Tensor, table: Table) -> Tensor:
    """Rotate queries or keys x [B, L, N, D] (pairs of neighbours) by a table for L tokens; dtype as x."""
    cos, sin = table
    first, second = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # each [B, L, N, D/2]
    rotated = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)


def _runs(positions: Sequence[int]) -> list[tuple[int, int]]:
    """Group positions into runs of neighbours [start, end); a ring has at most three (the sink, two parts)."""
    runs: list[tuple[int, int]] = []
    for position in positions:
        if runs and runs[-1][1] == position:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs


class Rotary:
    """Tables for one latent size on one device.

    The cosines and sines of the three axes are computed once, in float64 on the CPU (not every device has it), and kept
    on the device. A table is joined there from slices, so `table` never makes the host wait.

    Args:
        head_dim: D, even.
        grid: tokens of a frame, (height, width), after patching.
    """

    def __init__(self, head_dim: int, grid: tuple[int, int], device: torch.device):
        pairs = head_dim // 2
        self.spatial_pairs = pairs // 3
        self.time_pairs = pairs - 2 * self.spatial_pairs
        self.grid, self.device = grid, device
        height, width = (self._axis(range(size), self.spatial_pairs) for size in grid)
        self._height = tuple(part[None, :, None] for part in height)
        self._width = tuple(part[None, None] for part in width)
        self._time: Table | None = None  # [positions, time pairs] each
        self._last: tuple[tuple[int, ...], Table] | None = None

    def table(self, positions: Sequence[int]) -> Table:
        """Return the table for whole frames at these time positions, in order: L = len(positions) * height * width."""
        key = tuple(positions)
        if self._last is None or self._last[0] != key:  # every layer of a pass uses the same one
            self._last = (key, self._build(key))
        return self._last[1]

    def _build(self, positions: tuple[int, ...]) -> Table:
        cosine, sine = (self._join(part, positions) for part in range(2))
        return cosine, sine

    def _join(self, part: int, positions: tuple[int, ...]) -> Tensor:
        """Return the cosines (part 0) or sines (1), [L, 1, D / 2]."""
        shape = (len(positions), *self.grid)
        axis = self._times(max(positions) + 1)[part]
        time = torch.cat([axis[start:end] for start, end in _runs(positions)])[:, None, None]
        axes = (time, self._height[part], self._width[part])
        return torch.cat([axis.expand(*shape, -1) for axis in axes], dim=-1).flatten(0, 2)[:, None]

    def _times(self, count: int) -> Table:
        """Return the time axis, with at least `count` positions."""
        if self._time is None or self._time[0].shape[0] < count:
            most = max(FIRST_POSITIONS, 2 * count if self._time is not None else count)
            self._time = self._axis(range(most), self.time_pairs)
        return self._time

    def _axis(self, positions: range, pairs: int) -> Table:
        with torch.inference_mode(False):  # training may use it later
            angles = _angles(torch.arange(positions.start, positions.stop), pairs)
            return send(angles.cos().float(), self.device), send(angles.sin().float(), self.device)
