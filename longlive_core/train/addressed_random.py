"""Randomness by address: every draw of a training is a function of (seed, what it is for, step, item).

So there is no generator's state to save, a run that goes on after an interruption draws what it would have drawn, and
two ranks with half a batch each draw what one rank with the whole batch would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def address(seed: int, *parts: object) -> int:
    """A number below 2^63 for this address."""
    text = " ".join(map(str, ("longlive training", seed, *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *parts: object) -> torch.Generator:
    """A generator of its own for this address, on the CPU."""
    return torch.Generator("cpu").manual_seed(address(seed, *parts))


def choice(options: int, seed: int, *parts: object) -> int:
    """One of `options` numbers from 0 on, evenly."""
    return int(torch.randint(options, (), generator=generator(seed, *parts)))


def normal(shape: Sequence[int], items: Sequence[int], seed: int, *parts: object) -> Tensor:
    """Standard normal noise [len(items), *shape], float32 on the CPU; each item's is its own."""
    return torch.stack([torch.randn(tuple(shape), generator=generator(seed, *parts, item)) for item in items])


def uniform(items: Sequence[int], seed: int, *parts: object, shape: Sequence[int] = ()) -> Tensor:
    """Even numbers in [0, 1), [len(items), *shape], float64 on the CPU; each item's are its own."""
    draws = [torch.rand(tuple(shape), generator=generator(seed, *parts, item), dtype=torch.float64) for item in items]
    return torch.stack(draws)
