"""Dictionaries in dictionaries: which weights of a training's file are taken, and by which way they are found.

One rule at every level: of the entries that are dictionaries, one that is known by name is opened, weights before
their moving average unless the average is asked for. So `{"state_dict": {"model": ...}}` is read as deep as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..config import GENERATOR, GENERATOR_EMA
from .errors import CheckpointError, sample

# Names of the weights, and of their moving average, the first that is there counts.
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
    """Tensors by name, the `way` of entries to them (`generator`), and the `others` that could be chosen too."""

    tensors: dict[str, Tensor]
    way: tuple[str, ...]
    others: tuple[str, ...]

    def describe(self, path) -> str | None:
        """`x.pt holds generator and generator_ema; generator is taken`, where there was a choice."""
        if not self.others:
            return None
        return f"{path} holds {self.way[-1]} and {' and '.join(self.others)}; {self.way[-1]} is taken"


def select_weights(content: Any, prefer_ema: bool | None, path) -> SelectedWeights:
    """The weights of all that a file holds.

    prefer_ema: None: the weights, or their average where only that is there. True, False: the average, the weights.
    Raises CheckpointError where there are none, or not those asked for: a file of one set without a name has neither.
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
            f"{path} holds no weights under a name that is known ({', '.join(WEIGHT_NAMES[:4])}, ...); "
            f"its entries are {sample(map(str, content))}"
        )
    return SelectedWeights(tensors, tuple(way), tuple(others))


def _absent(content: Mapping, wanted: str, prefer_ema: bool, path) -> str:
    inner = [str(name) for name, value in content.items() if isinstance(value, Mapping)]
    there = f"it has {sample(inner)}" if inner else "it holds one set of weights; leave the choice at auto"
    return f"{path} has no `{wanted}`, which weights={wanted} (prefer_ema={prefer_ema}) asks for; {there}"


def _nested(content: Mapping) -> Mapping:
    """A flat file of weights and their average (`generator.blocks...`, `generator_ema.blocks...`) as dictionaries."""
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
