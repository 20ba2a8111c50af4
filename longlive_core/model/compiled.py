"""torch.compile for the causal forward, put on from outside.

Compiled is what lies between a block's attentions: its norms, linear layers, gates and feed-forward. The attentions
stay as they are: they write to the key/value cache and call kernels that a graph may not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from torch import Tensor

from .causal import CausalWan

STAGES = ("_enter", "_between", "_leave")


def compile_blocks(model: CausalWan, compiler: Callable[[Callable], Callable], name: str, copies: bool = False) -> None:
    """Have the stages of every block run through `compiler` (such as `torch.compile` with a user's options).

    They are compiled in the first pass; where that fails, RuntimeError says so.

    Args:
        name: what to call the compiler there.
        copies: copy what a stage returns, for compilers with CUDA graphs: their next run overwrites it.
    """
    for stage in STAGES:
        setattr(model, stage, _explained(compiler(getattr(model, stage)), name, copies))


def _explained(function: Callable, name: str, copies: bool) -> Callable:
    @wraps(function)
    def call(*given):
        from torch._dynamo.exc import TorchDynamoException  # slow to import, and in use already where this runs

        # The first block's input is a transposed view: one layout for all is one graph for all.
        given = [part.contiguous() if isinstance(part, Tensor) else part for part in given]
        try:
            made = function(*given)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            raise RuntimeError(
                f"{name} failed on the model's blocks ({type(error).__name__}: {reason}); remove the "
                "node that compiles the model, or choose another backend"
            ) from error
        return _copied(made) if copies else made

    return call


def _copied(made: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return made.clone() if isinstance(made, Tensor) else tuple(part.clone() for part in made)
