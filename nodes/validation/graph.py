"""A queued prompt (API format) as a graph: the values that a node will receive, if they are known before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...longlive_core.words.visible import make_visible

UNKNOWN = object()  # a value that is known only at run time

# Nodes that output one of their inputs unchanged, with that input's name: ComfyUI's own and KJNodes'.
_CONSTANTS = {
    "PrimitiveString": "value",
    "PrimitiveStringMultiline": "value",
    "PrimitiveInt": "value",
    "PrimitiveFloat": "value",
    "INTConstant": "value",
    "FloatConstant": "value",
    "StringConstant": "string",
}


@dataclass(frozen=True)
class QueuedGraph:
    """A queued prompt.

    Attributes:
        nodes: the prompt in API format. outputs: ids of the output nodes that will run.
        given: inputs by node id as the client sent them, before ComfyUI converted text to numbers; for nodes that are
            not in it, the inputs in `nodes` count.
    """

    nodes: dict[str, dict[str, Any]]
    outputs: list[str]
    given: dict[str, dict[str, Any]]

    def kind(self, node: str) -> str:
        return str(self._entry(node).get("class_type"))

    def inputs(self, node: str) -> dict[str, Any]:
        inputs = self._entry(node).get("inputs")
        return inputs if isinstance(inputs, dict) else {}

    def title(self, node: str) -> str:
        """Return the node's title as the user sees it, with its id."""
        title = (self._entry(node).get("_meta") or {}).get("title") or self.kind(node)
        return f"{make_visible(str(title))} (node {make_visible(node)})"

    def link(self, node: str, name: str) -> tuple[str, int] | None:
        """Return the (node, output) that an input is linked to."""
        value = self.inputs(node).get(name)
        return (str(value[0]), value[1]) if _is_link(value) else None

    def links(self, node: str) -> list[str]:
        """Return the names of the linked inputs."""
        return [name for name, value in self.inputs(node).items() if _is_link(value)]

    def value(self, node: str, name: str, default: Any = UNKNOWN) -> Any:
        """Return an input's value, or that of the constant it is linked to; else UNKNOWN.

        default: the result if there is no such input.
        """
        return self._value(node, name, default, set())

    def value_as_sent(self, node: str, name: str) -> Any:
        """Return an unlinked input's value before ComfyUI converted it (True to 1, 4.7 to 4); UNKNOWN without one.

        If other code has changed the value since then, return the changed value.
        """
        value = _unwrapped(self.inputs(node).get(name, UNKNOWN))
        came = _unwrapped(self.given.get(node, {}).get(name, value))
        try:
            same = came == value or type(value)(came) == value
        except (TypeError, ValueError, OverflowError):
            same = False
        return came if same else value

    def is_list(self, node: str, name: str) -> bool:
        """Return whether an input was sent as a list, that is as a link, valid or not."""
        return isinstance(self.given.get(node, self.inputs(node)).get(name), list)

    def takers(self, node: str, kind: str, name: str) -> list[str]:
        """Return the nodes of a type that will run and whose input `name` is linked to `node`."""
        running = self._running()
        return [
            taker
            for taker in self.nodes
            if taker in running and self.kind(taker) == kind and (self.link(taker, name) or ("",))[0] == node
        ]

    def _entry(self, node: str) -> dict[str, Any]:
        entry = self.nodes.get(node)
        return entry if isinstance(entry, dict) else {}

    def _value(self, node: str, name: str, default: Any, seen: set[str]) -> Any:
        link = self.link(node, name)
        if link is None:
            return _unwrapped(self.inputs(node).get(name, default))
        source, kind = link[0], self.kind(link[0])
        if source in seen or link[1] != 0:  # the listed nodes have one output
            return UNKNOWN
        if kind in _CONSTANTS:
            return self._value(source, _CONSTANTS[kind], UNKNOWN, seen | {source})
        compute = _COMPUTED.get(kind)
        return UNKNOWN if compute is None else compute(lambda part: self._value(source, part, UNKNOWN, seen | {source}))

    def _running(self) -> set[str]:
        """Return the output nodes and all nodes that they need."""
        found, waiting = set(), list(self.outputs)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += self._sources(node)
        return found

    def _sources(self, node: str) -> Iterator[str]:
        return (str(value[0]) for value in self.inputs(node).values() if _is_link(value))


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _unwrapped(value: Any) -> Any:
    """Return the list inside ComfyUI's wrapper for a list that is not a link."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


def _concatenated(part: Callable[[str], Any]) -> Any:
    texts = [part("string_a"), part("string_b")]
    delimiter = part("delimiter")
    return delimiter.join(texts) if all(isinstance(text, str) for text in (*texts, delimiter)) else UNKNOWN


def _without_newlines(part: Callable[[str], Any]) -> Any:
    text, strip = part("string"), part("strip_newlines")
    if not isinstance(text, str) or not isinstance(strip, bool):
        return UNKNOWN
    return text.replace("\n", "").strip() if strip else text


# Nodes that compute a text: ComfyUI's, and KJNodes' constant, which can remove line breaks.
_COMPUTED = {"StringConcatenate": _concatenated, "StringConstantMultiline": _without_newlines}
