"""Check widget values against a node's schema: ComfyUI checks few values sent over the API, and none from links."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from comfy_api.latest import io

from ...longlive_core.timeline.limits import digits
from .. import compat


class WrongKind(ValueError):
    """The value has the wrong type, although ComfyUI could convert it."""


class NotAChoice(ValueError):
    """The value is not among a combo's choices."""


def settings(inputs: Iterable[io.Input], given: dict[str, Any]) -> dict[str, Any]:
    """Return the checked values of all widgets of a node; omitted ones have their defaults.

    inputs: those of the node's schema. given: the widget values that `execute` received.

    Raises ValueError for a value out of bounds and for an unknown input.
    """
    widgets = widgets_of(inputs)
    compat.refuse_removed({name: value for name, value in given.items() if name not in widgets})
    return {name: checked(widget, given.get(name, widget.default)) for name, widget in widgets.items()}


def widgets_of(inputs: Iterable[io.Input]) -> dict[str, io.Input]:
    """Return the inputs that are widgets, by name."""
    kinds = (io.Int.Input, io.Float.Input, io.String.Input, io.Combo.Input)
    return {each.id: each for each in inputs if isinstance(each, kinds)}


def checked(widget: io.Input, value: Any) -> Any:
    """Return the value as the node expects it; None for an optional widget without a default.

    Raises ValueError with the widget's name and the allowed values.
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
    """Convert a value from the API as ComfyUI does; raises what the conversion raises."""
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
    # In Python, True equals 1.
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
    """Return a value of any type and size as short text for a message."""
    text = digits(value) if isinstance(value, int) and not isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
