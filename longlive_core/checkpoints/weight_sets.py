"""Select the weights in a training checkpoint: nested dictionaries, with weights and their moving average (EMA).

One rule at every level: of the entries that are dictionaries, one with a known name is opened, weights before their
moving average unless the average is requested. So `{"state_dict": {"model": ...}}` is opened at any depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..config import GENERATOR, GENERATOR_EMA
from .errors import CheckpointError, sample

# Names of the weights, and of their moving average; the first one in a file is used.
WEIGHT_NAMES = (
    GENERATOR,
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    "net",
    "network",
    "diffusion_model",
    "transformer",
    "dit",
    "student",
    "params",
    "weights",
    "shadow",
    "shadow_params",
)
EMA_NAMES = (GENERATOR_EMA, "ema", "model_ema", "ema_model", "ema_state_dict", "params_ema")


class SelectedWeights(NamedTuple):
    """The selected weights.

    Attributes:
        tensors: by key.
        way: the names of the nested entries to them (`generator`).
        others: the names of entries that could be chosen instead.
    """

    tensors: dict[str, Tensor]
    way: tuple[str, ...]
    others: tuple[str, ...]

    def describe(self, path) -> str | None:
        """Return `x.pt holds generator and generator_ema; generator is taken`, or None if there was no choice."""
        if not self.others:
            return None
        return f"{path} holds {self.way[-1]} and {' and '.join(self.others)}; {self.way[-1]} is taken"


def select_weights(content: Any, prefer_ema: bool | None, path) -> SelectedWeights:
    """Select one set of weights from a file's content.

    prefer_ema: None: the weights, or their average if there is only that. True: the average. False: the weights.
    Raises CheckpointError if there are none, or not the requested ones: a file with one unnamed set has neither.
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    top, way, others, wanted = content, [], [], prefer_ema
    while True:
        content = _nested(content)
        inner = {name: value for name, value in content.items() if isinstance(value, Mapping)}
        weights, averages = ([name for name in names if name in inner] for names in (WEIGHT_NAMES, EMA_NAMES))
        order = {None: weights + averages, True: averages + weights, False: weights}[wanted]
        if not order:
            break
        way.append(order[0])
        if weights and averages:
            others += [name for name in (weights[0], averages[0]) if name != order[0]]
        if wanted and order[0] in EMA_NAMES:
            wanted = None
        content = inner[order[0]]
    if wanted:
        raise CheckpointError(_absent(top, GENERATOR_EMA, True, path))
    if prefer_ema is False and (averages or not way):
        raise CheckpointError(_absent(top, GENERATOR, False, path))
    tensors = {name: value.detach() for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            f"{path} holds no weights under a known name ({', '.join(WEIGHT_NAMES[:4])}, ...); "
            f"its entries are {sample(map(str, content))}"
        )
    return SelectedWeights(tensors, tuple(way), tuple(others))


def _absent(entries: Mapping, wanted: str, prefer_ema: bool, path) -> str:
    inner = [str(name) for name, value in entries.items() if isinstance(value, Mapping)]
    content = f"it has {sample(inner)}" if inner else "it holds one set of weights; leave the choice at auto"
    return f"{path} has no `{wanted}`, which weights={wanted} (prefer_ema={prefer_ema}) selects; {content}"


def _nested(content: Mapping) -> Mapping:
    """Convert a flat file of weights and average (`generator.blocks...`, `generator_ema.blocks...`) to dictionaries."""
    heads = {str(name).partition(".")[0] for name, value in content.items() if isinstance(value, Tensor)}
    if not heads & set(EMA_NAMES):
        return content
    groups: dict[str, Any] = {}
    for name, value in content.items():
        head, dot, rest = str(name).partition(".")
        if isinstance(value, Tensor) and dot and head in {*WEIGHT_NAMES, *EMA_NAMES}:
            groups.setdefault(head, {})[rest] = value
        else:
            groups[name] = value
    return groups
