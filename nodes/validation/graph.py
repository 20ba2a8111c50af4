"""A prompt in API format as a graph: what a node will be given, as far as that is known before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ...longlive_core.words.visible import make_visible

UNKNOWN = object()  # a value that only running tells

# Nodes that hand on what they are given, by the input that it stands in: ComfyUI's own and KJNodes'.
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
    """nodes: the prompt. outputs: the nodes for whose sake it runs. given: inputs by node as they came, before ComfyUI
    made numbers of texts; where they are not kept, those of `nodes` count."""

    nodes: dict[str, dict[str, Any]]
    outputs: list[str]
    given: dict[str, dict[str, Any]]

    def kind(self, node: str) -> str:
        return str(self._entry(node).get("class_type"))

    def inputs(self, node: str) -> dict[str, Any]:
        inputs = self._entry(node).get("inputs")
        return inputs if isinstance(inputs, dict) else {}

    def title(self, node: str) -> str:
        """As the user sees the node, with its id."""
        title = (self._entry(node).get("_meta") or {}).get("title") or self.kind(node)
        return f"{make_visible(str(title))} (node {make_visible(node)})"

    def link(self, node: str, name: str) -> tuple[str, int] | None:
        """(node, output) that an input is linked to."""
        value = self.inputs(node).get(name)
        return (str(value[0]), value[1]) if _is_link(value) else None

    def links(self, node: str) -> list[str]:
        """The inputs that are linked."""
        return [name for name, value in self.inputs(node).items() if _is_link(value)]

    def value(self, node: str, name: str, default: Any = UNKNOWN) -> Any:
        """What an input will be given: its value, or that of the constant it is linked to; else UNKNOWN.

        default: where there is no such input.
        """
        return self._value(node, name, default, set())

    def as_it_came(self, node: str, name: str) -> Any:
        """A value that stands at the node itself, before ComfyUI made 1 of True and 4 of 4.7; UNKNOWN where none does.

        What somebody else changed since then counts as it is.
        """
        value = _unwrapped(self.inputs(node).get(name, UNKNOWN))
        came = _unwrapped(self.given.get(node, {}).get(name, value))
        try:
            same = came == value or type(value)(came) == value
        except (TypeError, ValueError, OverflowError):
            same = False
        return came if same else value

    def is_list(self, node: str, name: str) -> bool:
        """Whether an input came as a list: as a link, good or bad."""
        return isinstance(self.given.get(node, self.inputs(node)).get(name), list)

    def takers(self, node: str, kind: str, name: str) -> list[str]:
        """The nodes of a type whose input `name` is linked to `node`, of those that will run."""
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
        if source in seen or link[1] != 0:  # constants have one output
            return UNKNOWN
        if kind in _CONSTANTS:
            return self._value(source, _CONSTANTS[kind], UNKNOWN, seen | {source})
        made = _MADE.get(kind)
        return UNKNOWN if made is None else made(lambda part: self._value(source, part, UNKNOWN, seen | {source}))

    def _running(self) -> set[str]:
        """The nodes that the outputs need, themselves included."""
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
    """ComfyUI's way to pass on a list that is no link."""
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


# Nodes that make a text of others: ComfyUI's, and KJNodes' constant, which may take the ends of lines out.
_MADE = {"StringConcatenate": _concatenated, "StringConstantMultiline": _without_newlines}
