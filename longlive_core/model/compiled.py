"""torch.compile for the causal forward, applied from outside.

The parts between a block's attentions are compiled: norms, linear layers, gates and feed-forward. The attentions are
not: they write to the key/value cache and call kernels that a graph may not contain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from torch import Tensor

from .causal import CausalWan

STAGES = ("_enter", "_between", "_leave")


def compile_blocks(model: CausalWan, compiler: Callable[[Callable], Callable], name: str, copies: bool = False) -> None:
    """Compile the stages of every block with `compiler` (such as `torch.compile` with a user's options).

    They are compiled in the first pass; if that fails, it raises RuntimeError.

    Args:
        name: of the compiler, for that message.
        copies: copy the result of a stage, for compilers with CUDA graphs: their next run overwrites it.
    """
    for stage in STAGES:
        setattr(model, stage, _with_clear_errors(compiler(getattr(model, stage)), name, copies))


def _with_clear_errors(function: Callable, name: str, copies: bool) -> Callable:
    @wraps(function)
    def call(*given):
        from torch._dynamo.exc import TorchDynamoException  # slow to import, and already imported when this runs

        # The first block's input is a transposed view; with one layout for all blocks there is one graph for all.
        given = [part.contiguous() if isinstance(part, Tensor) else part for part in given]
        try:
            result = function(*given)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            raise RuntimeError(
                f"{name} failed on the model's blocks ({type(error).__name__}: {reason}); remove the "
                "node that compiles the model, or choose another backend"
            ) from error
        return _copied(result) if copies else result

    return call


def _copied(result: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return result.clone() if isinstance(result, Tensor) else tuple(part.clone() for part in result)
