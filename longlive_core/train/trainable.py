"""The causal forward in training: activation checkpointing and FSDP2, applied from outside the model.

`CausalWan` calls a model's submodules one by one and never the model itself, so hooks on a module's forward would not
run. Here every part of the forward is called through the module whose weights it uses: FSDP2 gathers and frees the
weights there, and checkpointing drops a block's activations and recomputes them in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import is_grad_enabled, nn
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from ..model import CausalWan


class TrainableWan(CausalWan):
    """A Wan transformer in training.

    Args:
        checkpointing: keep only each block's input for the backward pass. The recomputation reads the key/value cache
            again, so a chunk's backward must run before the next chunk is rendered (`self_forcing.py` does this).

    The other arguments are `CausalWan`'s.
    """

    def __init__(self, module: Any, *given, checkpointing: bool = False, **named):
        super().__init__(module, *given, **named)
        self.checkpointing = checkpointing

    def _within(self, module: Any, function: Callable, *given) -> Any:
        if self.checkpointing and is_grad_enabled() and module is not self.module:
            function = partial(checkpoint, function, use_reentrant=False)
        return module(function, *given) if isinstance(module, FSDPModule) else function(*given)


def callable_parts(module: nn.Module) -> None:
    """Replace the forward of the model and its blocks by the one that `TrainableWan` calls; do it before FSDP2."""
    for part in (module, *module.blocks):
        part.forward = _run


def _run(function: Callable, *given) -> Any:
    return function(*given)
