"""Ranks, the processes that `torchrun` starts, and FSDP2 over all of them. Without torchrun: one rank, unsharded.

Each block is an FSDP group, gathered for its part of the forward and freed afterwards; the rest of a model is one more
group. Gradients are averaged over ranks, so a rank's loss is a mean over its own items.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from .trainable import callable_parts


@dataclass(frozen=True)
class Ranks:
    """This process's rank, the number of ranks, and its device."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def many(self) -> bool:
        return self.count > 1

    def items(self, batch: int) -> range:
        """Return the indices of this rank's items in the global batch of `batch` items per rank."""
        return range(self.rank * batch, (self.rank + 1) * batch)

    def barrier(self) -> None:
        if self.many:
            dist.barrier()

    def mean_gradients(self, params: Sequence[nn.Parameter]) -> None:
        """Replace gradients of unsharded weights by their means over all ranks, in one all-reduce."""
        if not self.many:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        message = torch.cat([gradient.float().flatten() for gradient in gradients])
        dist.all_reduce(message)
        message /= self.count
        for p, mean in zip(params, message.split([p.numel() for p in params]), strict=True):
            p.grad = mean.view_as(p).to(p.dtype)

    def mean(self, value: float) -> float:
        """Return the mean of a number over all ranks."""
        if not self.many:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.count


@contextmanager
def launched_ranks(device: str | None = None, patience: timedelta | None = None) -> Iterator[Ranks]:
    """Join the ranks that torchrun started (NCCL on CUDA, gloo on the CPU), or yield the only one.

    patience: timeout of collective operations; None: the backend's default, a few minutes.
    """
    cuda = torch.cuda.is_available() if device is None else device.startswith("cuda")
    if "RANK" not in os.environ:
        yield Ranks(device=torch.device(device or ("cuda" if cuda else "cpu")))
        return
    place = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=patience)
    try:
        ranks = Ranks(dist.get_rank(), dist.get_world_size(), place)
        yield ranks
        ranks.barrier()  # a rank that exits early closes connections that others may still use
    finally:
        dist.destroy_process_group()


def shard(module: nn.Module, ranks: Ranks) -> nn.Module:
    """Shard a model's weights over all ranks, in place. Gradients are reduced in float32."""
    if not ranks.many:
        return module
    callable_parts(module)
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = dist.init_device_mesh(ranks.device.type, (ranks.count,))
    for block in module.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    return module
