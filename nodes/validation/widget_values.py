"""What a node's widgets take, read from its schema: for values over the API, where ComfyUI looks at few of them, and
from links, where it looks at none."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from comfy_api.latest import io

from ...longlive_core.timeline.limits import digits
from .. import compat


class WrongKind(ValueError):
    """No number, or no text, although ComfyUI could make one of it."""


class NotAChoice(ValueError):
    """None of a combo's choices."""


def settings(inputs: Iterable[io.Input], given: dict[str, Any]) -> dict[str, Any]:
    """The values of all widgets of a node, those that were left out at their defaults.

    inputs: of its schema. given: what `execute` was given for widgets. ValueError for a value out of bounds and for an
    input that there is not.
    """
    widgets = widgets_of(inputs)
    compat.refuse_removed({name: value for name, value in given.items() if name not in widgets})
    return {name: checked(widget, given.get(name, widget.default)) for name, widget in widgets.items()}


def widgets_of(inputs: Iterable[io.Input]) -> dict[str, io.Input]:
    """The inputs that are widgets, by their names."""
    kinds = (io.Int.Input, io.Float.Input, io.String.Input, io.Combo.Input)
    return {each.id: each for each in inputs if isinstance(each, kinds)}


def checked(widget: io.Input, value: Any) -> Any:
    """The value as the node takes it; None for one that may be left out and has no default.

    ValueError with the widget's name and what it takes.
    """
    if value is None and widget.optional and widget.default is None:
        return None
    if isinstance(widget, io.Combo.Input):
        return _choice(widget, value)
    if isinstance(widget, io.String.Input):
        if not isinstance(value, str):
            raise WrongKind(f"{widget.id} is {shown(value)}: give a text")
        return value
    return _number(widget, value)


def converted(widget: io.Input, value: Any) -> Any:
    """What ComfyUI makes of a value that came over the API; raises what that raises."""
    if isinstance(widget, io.Combo.Input):
        return value
    kind = str if isinstance(widget, io.String.Input) else int if isinstance(widget, io.Int.Input) else float
    return kind(value)


def _choice(widget: io.Combo.Input, value: Any) -> Any:
    found = next((option for option in widget.options if option == value), None)
    if found is not None and not isinstance(value, bool):
        return found
    few = len(widget.options) <= 12
    allowed = f": allowed are {', '.join(map(str, widget.options))}" if few else " is none of the choices"
    # To Python, True is 1.
    raise (NotAChoice if found is None else WrongKind)(f"{widget.id} {shown(value)}{allowed}")


def _number(widget: io.Input, value: Any) -> int | float:
    whole = isinstance(widget, io.Int.Input)
    wanted = f"give a {'whole ' if whole else ''}number from {widget.min:g} to {_largest(widget.max)}"
    number = None
    if isinstance(value, Real) and not isinstance(value, bool):  # numbers of NumPy too
        if not whole:
            number = _as_float(value)
        elif isinstance(value, Integral) or float(value).is_integer():
            number = int(value)
    if number is None or number != number:  # NaN
        raise WrongKind(f"{widget.id} is {shown(value)}: {wanted}")
    if not widget.min <= number <= widget.max:
        raise ValueError(f"{widget.id} is {shown(value)}: {wanted}")
    return number


def _as_float(value: Real) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond the floats
        return math.inf if value > 0 else -math.inf


def _largest(number: float) -> str:
    return f"{number:g}" if number < 1e6 else str(int(number))


def shown(value: Any) -> str:
    """A value for a message, of whatever kind and size."""
    text = digits(value) if isinstance(value, int) and not isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
