"""Noise by address: the noise of (seed, chunk, step) is a function of these three values and nothing else.

So the noise of a chunk does not depend on the number of chunks before it, on the device, or on where a render resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

MAX_SEED = 2**64 - 1


class Noise(Protocol):
    def draw(self, chunk: int, step: int, shape: Sequence[int]) -> Tensor:
        """Return standard normal noise, float32 on the CPU.

        Args:
            chunk: index of the chunk in its shot.
            step: 0 for the starting noise, i for the noise added before denoising step i.
            shape: [B, C, T, h, w].
        """
        ...


class AddressedNoise:
    """Noise from a seed. With a list of seeds, item b of the batch equals the noise of seed b alone."""

    def __init__(self, seed: int | Sequence[int]):
        self.seeds = (seed,) if isinstance(seed, int) else tuple(seed)
        for value in self.seeds:
            if not 0 <= value <= MAX_SEED:
                raise ValueError(f"seed {value}: allowed are 0 to {MAX_SEED}")

    def draw(self, chunk: int, step: int, shape: Sequence[int]) -> Tensor:
        batch, *rest = shape
        if batch != len(self.seeds):
            raise ValueError(f"a batch of {batch} needs {batch} seeds, got {len(self.seeds)}")
        return torch.stack([self._one(seed, chunk, step, rest) for seed in self.seeds])

    @staticmethod
    def _one(seed: int, chunk: int, step: int, shape: Sequence[int]) -> Tensor:
        address = f"longlive noise {seed} {chunk} {step}".encode()
        state = int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "little", signed=True)
        generator = torch.Generator("cpu").manual_seed(state)
        return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


class RecordedNoise:
    """Noise from a recording, to replay a run of another program.

    Args:
        start: [B, C, T, h, w], starting noise of all latent frames.
        renoise: [chunks, steps - 1, B, C, chunk, h, w], the noise added between steps, in order of use.
    """

    def __init__(self, start: Tensor, renoise: Tensor):
        self.start, self.renoise = start, renoise

    def draw(self, chunk: int, step: int, shape: Sequence[int]) -> Tensor:
        frames = shape[2]
        noise = self.start[:, :, chunk * frames : (chunk + 1) * frames] if step == 0 else self.renoise[chunk, step - 1]
        if tuple(noise.shape) != tuple(shape):
            raise ValueError(
                f"recorded noise of chunk {chunk}, step {step} is {tuple(noise.shape)}, the run needs {tuple(shape)}"
            )
        return noise
