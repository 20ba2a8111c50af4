"""Random numbers by address: every draw of a training is a function of (seed, purpose, step, item).

No generator state has to be saved: a resumed run draws the same numbers as an uninterrupted one, and two ranks with
half a batch each draw the same numbers as one rank with the whole batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def address(seed: int, *parts: object) -> int:
    """Return the integer below 2^63 that belongs to this address."""
    text = " ".join(map(str, ("longlive training", seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *parts: object) -> torch.Generator:
    """Return a CPU generator seeded by this address."""
    return torch.Generator("cpu").manual_seed(address(seed, *parts))


def choice(options: int, seed: int, *parts: object) -> int:
    """Return a uniformly drawn integer in [0, options)."""
    return int(torch.randint(options, (), generator=generator(seed, *parts)))


def normal(shape: Sequence[int], items: Sequence[int], seed: int, *parts: object) -> Tensor:
    """Return standard normal noise [len(items), *shape], float32 on the CPU; each item has its own address."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(seed, *parts, item)) for item in items])


def uniform(items: Sequence[int], seed: int, *parts: object, shape: Sequence[int] = ()) -> Tensor:
    """Return uniform numbers in [0, 1), [len(items), *shape], float64 on the CPU; each item has its own address."""
    draws = [torch.rand(tuple(shape), generator=generator(seed, *parts, item), dtype=torch.float64) for item in items]
    return torch.stack(draws)
