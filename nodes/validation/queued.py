"""Validate one node of this pack in a queued prompt: each error is reported once, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from comfy_api.latest import io

from ...longlive_core.files.fields import short_repr
from .. import compat
from . import widget_values
from .graph import UNKNOWN, QueuedGraph

FindError = Callable[[QueuedGraph, str], str | None]


def validate_queued(kind: str, find_error: FindError, alone: str | None = None) -> bool | str:
    """Return what `validate_inputs` of a node of this type must return: True, or the error's message.

    find_error: finds the error of a node in the queued prompt, or None. alone: the error found without the prompt, for
    when ComfyUI does not give it to us. `execute` checks everything again.
    """
    found = compat.queued_prompt.prompt_being_validated(kind)
    return (alone if found is None else find_error(*found)) or True


def validate_widgets(node: type[io.ComfyNode]) -> bool | str:
    """Do the same for a node whose widgets do not depend on one another."""
    schema = node.define_schema()
    return validate_queued(schema.node_id, lambda graph, at: widget_error(graph, at, schema.inputs)[0])


def widget_error(graph: QueuedGraph, node: str, inputs: Iterable[io.Input], taken: str = "") -> tuple[str | None, bool]:
    """Return (the first error that ComfyUI itself does not report, whether all widgets are valid).

    A link to an input that does not exist is an error, and so is a value in place of a link.

    taken: the widget that the node's `validate_inputs` takes as an argument; ComfyUI does not check it.
    """
    inputs, all_valid = list(inputs), True
    try:
        names = {each.id for each in inputs}
        compat.refuse_removed({name: None for name in graph.links(node) if name not in names})
    except ValueError as error:
        return str(error), False
    not_linked = _value_for_link(graph, node, inputs)
    if not_linked is not None:
        return not_linked, False
    for name, widget in widget_values.widgets_of(inputs).items():
        error = _error(graph, node, widget)
        if error is not None:
            all_valid = False
            if name == taken or not _reported_by_host(error) or graph.link(node, name) is not None:
                return str(error), False
    return None, all_valid


def _value_for_link(graph: QueuedGraph, node: str, inputs: list[io.Input]) -> str | None:
    """Return the error for a value in place of a link; ComfyUI would pass it to the node unchecked."""
    given, widgets = graph.inputs(node), widget_values.widgets_of(inputs)
    for name in (each.id for each in inputs if each.id not in widgets):
        if given.get(name) is not None and graph.link(node, name) is None:
            return f"{name} is {short_repr(given[name])}: connect it to another node's output, it takes no value"
    return None


def _error(graph: QueuedGraph, node: str, widget: io.Input) -> Exception | None:
    """Return the error of one widget's value; None if it is valid or not yet known."""
    linked = graph.link(node, widget.id) is not None
    value = UNKNOWN if linked else graph.value_as_sent(node, widget.id)
    value = graph.value(node, widget.id, widget.default) if value is UNKNOWN else value
    if value is UNKNOWN or (value is None and widget.id not in graph.inputs(node)):
        return None
    if not linked and graph.is_list(node, widget.id):
        return TypeError(f"{widget.id} is a link to nothing")
    try:
        widget_values.checked(widget, widget_values.converted(widget, value))  # as ComfyUI checks it
        if isinstance(widget, io.String.Input) or not isinstance(value, str):  # the text "16" is accepted for 16
            widget_values.checked(widget, value)
    except (ValueError, TypeError, OverflowError) as error:
        return error
    return None


def _reported_by_host(error: Exception) -> bool:
    """Return whether ComfyUI itself rejects the value: it cannot convert it, or it checks these bounds."""
    if isinstance(error, widget_values.NotAChoice):
        return compat.queued_prompt.host_validates_choices()
    return not isinstance(error, widget_values.WrongKind)


def known_values(graph: QueuedGraph, node: str, inputs: Iterable[io.Input]) -> dict[str, Any]:
    """Return the values of a node's widgets; UNKNOWN for those known only when the node runs, and for invalid ones."""
    return {
        name: _known(widget, graph.value(node, name, widget.default))
        for name, widget in widget_values.widgets_of(inputs).items()
    }


def _known(widget: io.Input, value: Any) -> Any:
    if value is UNKNOWN:
        return UNKNOWN
    try:
        return widget_values.checked(widget, widget_values.converted(widget, value))
    except (ValueError, TypeError, OverflowError):
        return UNKNOWN
