"""What is wrong with a node of this pack, said when it is queued: once, and before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from comfy_api.latest import io

from ...longlive_core.files.fields import shown
from .. import compat
from . import widget_values
from .graph import UNKNOWN, QueuedGraph

Fault = Callable[[QueuedGraph, str], str | None]


def judged(kind: str, fault: Fault, alone: str | None = None) -> bool | str:
    """What `validate_inputs` of a node of this type returns.

    fault: of a node in the prompt that is being queued, None where there is none. alone: what is wrong as far as can be
    told where the prompt is not known; `execute` looks again at everything.
    """
    found = compat.queued_prompt.being_checked(kind)
    return (alone if found is None else fault(*found)) or True


def widgets_judged(node: type[io.ComfyNode]) -> bool | str:
    """As `judged`, of a node whose widgets are right or wrong each by itself."""
    schema = node.define_schema()
    return judged(schema.node_id, lambda graph, at: widgets_fault(graph, at, schema.inputs)[0])


def widgets_fault(
    graph: QueuedGraph, node: str, inputs: Iterable[io.Input], taken: str = ""
) -> tuple[str | None, bool]:
    """(what is wrong with one of the inputs and is not said by ComfyUI itself, whether all widgets are right)

    A link to an input that there is not counts as such, and so does a value in the place of a link.

    taken: the widget that the node's `validate_inputs` takes, at which ComfyUI does not look.
    """
    inputs, all_right = list(inputs), True
    try:
        names = {each.id for each in inputs}
        compat.refuse_removed({name: None for name in graph.links(node) if name not in names})
    except ValueError as error:
        return str(error), False
    forged = _forged(graph, node, inputs)
    if forged is not None:
        return forged, False
    for name, widget in widget_values.widgets_of(inputs).items():
        error = _fault(graph, node, widget)
        if error is not None:
            all_right = False
            if name == taken or not _said_by_host(error) or graph.link(node, name) is not None:
                return str(error), False
    return None, all_right


def _forged(graph: QueuedGraph, node: str, inputs: list[io.Input]) -> str | None:
    """What is wrong where a value stands in the place of a link: ComfyUI hands it to the node as it came."""
    given, widgets = graph.inputs(node), widget_values.widgets_of(inputs)
    for name in (each.id for each in inputs if each.id not in widgets):
        if given.get(name) is not None and graph.link(node, name) is None:
            return f"{name} is {shown(given[name])}: connect it to another node's output, it takes no value"
    return None


def _fault(graph: QueuedGraph, node: str, widget: io.Input) -> Exception | None:
    """What is wrong with the value of one widget, as far as it is known."""
    linked = graph.link(node, widget.id) is not None
    value = UNKNOWN if linked else graph.as_it_came(node, widget.id)
    value = graph.value(node, widget.id, widget.default) if value is UNKNOWN else value
    if value is UNKNOWN or (value is None and widget.id not in graph.inputs(node)):
        return None
    if not linked and graph.is_list(node, widget.id):
        return TypeError(f"{widget.id} is a link to nothing")
    try:
        widget_values.checked(widget, widget_values.converted(widget, value))  # what ComfyUI looks at
        if isinstance(widget, io.String.Input) or not isinstance(value, str):  # "16" for 16 is as good
            widget_values.checked(widget, value)
    except (ValueError, TypeError, OverflowError) as error:
        return error
    return None


def _said_by_host(error: Exception) -> bool:
    """Whether ComfyUI itself refuses such a value: one that it cannot convert, or whose bounds it looks at."""
    if isinstance(error, widget_values.NotAChoice):
        return compat.queued_prompt.host_checks_choices()
    return not isinstance(error, widget_values.WrongKind)


def known_values(graph: QueuedGraph, node: str, inputs: Iterable[io.Input]) -> dict[str, Any]:
    """The values of a node's widgets; UNKNOWN are those that only running tells, and wrong ones."""
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
