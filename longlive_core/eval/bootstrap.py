"""Confidence intervals of means: percentile bootstrap (Efron, 1979), identical on every run.

The values must be independent: one per film (or seed), not the windows or frames of one film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10000
LEVEL = 0.95
_AT_ONCE = 1 << 22  # resampled values in memory at once


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval, over `count` values."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(
    values: Sequence[float], seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Return the mean of values and its interval at `level`.

    ValueError for fewer than two values (one has no spread), for NaN, and for settings out of range.
    """
    data = np.asarray(values, float)
    if data.ndim != 1 or len(data) < 2:
        raise ValueError(
            f"an interval needs at least two values in a row, got an array of shape {list(data.shape)}; "
            "evaluate more films"
        )
    if not np.isfinite(data).all():
        raise ValueError(
            f"value {int(np.argmin(np.isfinite(data)))} is {data[~np.isfinite(data)][0]}; leave out films "
            "without a value"
        )
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"resamples {resamples}, level {level}: resamples must be at least 1, the level in (0, 1)")
    rng, rows = np.random.default_rng(seed), max(1, _AT_ONCE // len(data))
    means = np.concatenate(
        [
            data[rng.integers(len(data), size=(min(rows, resamples - first), len(data)))].mean(axis=1)
            for first in range(0, resamples, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(data.mean()), float(low), float(high), len(data))


def bootstrap_difference(
    before: Sequence[float], after: Sequence[float], seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> Interval:
    """Return the mean of `after - before` over pairs (the same prompt and seed, two settings), and its interval.

    ValueError if the two differ in number, and as in `bootstrap_mean`.
    """
    one, two = np.asarray(before, float), np.asarray(after, float)
    if one.shape != two.shape:
        raise ValueError(f"{one.size} values before and {two.size} after do not make pairs; pass one of each per film")
    return bootstrap_mean(two - one, seed, resamples, level)
