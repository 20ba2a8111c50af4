"""Whether a server would accept a workflow, according to its /object_info; no weights are needed.

Wiring is checked in both directions (every input that a node needs, no input that it does not have, types of links),
and widgets by type, range and choices. Choices that are names of files are left out: those depend on the machine.

Newer versions have choices that bring inputs of their own (`DYNAMIC`): of Save Video's format `mp4` there is an input
`format.codec`. Where such an input took the place of one of the node's own, that one is hidden and counts as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

NOT_FILES = "none", "from the model"  # choices of Load LongLive's lists that every machine has
FILE_INPUTS = {
    ("LongLiveLoad", "model"),
    ("LongLiveLoad", "lora"),
    ("LongLiveLoad", "text_encoder"),
    ("LongLiveLoad", "vae"),
    ("UNETLoader", "unet_name"),
    ("CLIPLoader", "clip_name"),
    ("VAELoader", "vae_name"),
    ("LoraLoaderModelOnly", "lora_name"),
}
BROWSER_ONLY = ("MarkdownNote",)
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
SCALARS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}


def problems(graph: dict[str, dict], object_info: dict[str, dict]) -> list[str]:
    """Return the errors of a workflow in API format."""
    found = []
    for node, entry in graph.items():
        kind = entry["class_type"]
        if kind not in object_info:
            found.append(f"node {node}: no server has a node {kind}")
            continue
        found += [f"node {node} ({kind}): {text}" for text in _of_node(kind, entry["inputs"], graph, object_info)]
    return found


def files_of(graph: dict[str, dict]) -> set[str]:
    """Return the names of files that a workflow needs."""
    chosen = {
        entry["inputs"][name]
        for entry in graph.values()
        for kind, name in FILE_INPUTS
        if entry["class_type"] == kind and name in entry["inputs"]
    }
    return {name for name in chosen if name not in NOT_FILES and not name.endswith("(built-in)")}


class Slot(NamedTuple):
    """An input of a node as /object_info describes it: [type, options]."""

    name: str
    spec: list
    required: bool

    @property
    def options(self) -> dict[str, Any]:
        return self.spec[1] if len(self.spec) > 1 else {}

    @property
    def choices(self) -> list | None:
        """What may be chosen; None where it is no list of choices."""
        if isinstance(self.spec[0], list):
            return self.spec[0]
        if self.spec[0] == DYNAMIC:
            return [option["key"] for option in self.options["options"]]
        return self.options.get("options", []) if self.spec[0] == "COMBO" else None

    @property
    def hidden(self) -> bool:
        """Kept for older workflows; the browser does not show it."""
        return bool(self.options.get("hidden"))


def slots_of(groups: dict[str, dict], inputs: dict[str, Any], prefix: str = "") -> Iterator[Slot]:
    """A node's inputs in the browser's order, those that a choice in `inputs` brings right behind that choice.

    It may be iterated while `inputs` is filled: a choice is looked up when the next input is requested.
    """
    for group in ("required", "optional"):
        for short, spec in groups.get(group, {}).items():
            slot = Slot(prefix + short, spec, group == "required")
            yield slot
            if spec[0] == DYNAMIC:
                chosen = (o for o in slot.options["options"] if o["key"] == inputs.get(slot.name))
                for option in chosen:
                    yield from slots_of(option["inputs"], inputs, f"{slot.name}.")


def _of_node(kind: str, inputs: dict[str, Any], graph: dict, object_info: dict) -> list[str]:
    slots = {slot.name: slot for slot in slots_of(object_info[kind]["input"], inputs)}
    found = [f"input {slot.name} is missing" for slot in slots.values() if _is_missing(slot, inputs)]
    for name, value in inputs.items():
        if name not in slots:
            found.append(f"it has no input {name}")
        elif isinstance(value, list):
            found += _of_link(name, value, slots[name].spec[0], graph, object_info)
        else:
            found += _of_widget(kind, slots[name], value)
    return found


def _is_missing(slot: Slot, inputs: dict[str, Any]) -> bool:
    by_choice = "." in slot.name and slot.spec[0] == DYNAMIC  # the server does without a choice inside a choice
    return slot.required and slot.name not in inputs and not by_choice


def _of_link(name: str, link: list, wanted: Any, graph: dict, object_info: dict) -> list[str]:
    source = graph.get(link[0])
    if source is None:
        return [f"{name} is linked to node {link[0]}, which is not there"]
    outputs = object_info.get(source["class_type"], {}).get("output", [])
    if not 0 <= link[1] < len(outputs):
        return [f"{name} is linked to output {link[1]} of {source['class_type']}, which has {len(outputs)}"]
    given = outputs[link[1]]
    if wanted != given and "*" not in (wanted, given):
        return [f"{name} takes {wanted}, but {source['class_type']} gives {given}"]
    return []


def _of_widget(kind: str, slot: Slot, value: Any) -> list[str]:
    name, wanted, options, choices = slot.name, slot.spec[0], slot.options, slot.choices
    if choices is not None:
        is_choice = value in choices or (kind, name) in FILE_INPUTS
        return [] if is_choice else [f"{name} is {value!r}, which is none of {choices}"]
    if wanted not in SCALARS:
        return [f"{name} is {value!r}, but takes a link of type {wanted}"]
    if not isinstance(value, SCALARS[wanted]) or (isinstance(value, bool) and wanted != "BOOLEAN"):
        return [f"{name} is {value!r}, but takes {wanted}"]
    low, high = options.get("min"), options.get("max")
    if (low is not None and value < low) or (high is not None and value > high):
        return [f"{name} is {value}, but goes from {low} to {high}"]
    return []


# --- the browser's form ----------------------------------------------------------------------------------------------


def to_api(workflow: dict, object_info: dict) -> dict[str, dict]:
    """What the front end queues: widgets by position, links by id. AssertionError for too many or too few widgets."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in BROWSER_ONLY:
            continue
        sockets = {socket["name"]: socket["link"] for socket in node["inputs"]}
        values, inputs = iter(node["widgets_values"]), {}
        for slot in slots_of(_in_order(object_info[node["type"]]), inputs):
            forced = slot.options.get("forceInput")  # a number that only a link gives
            if not forced and (slot.choices is not None or slot.spec[0] in SCALARS):
                _take_widget(slot, values, inputs)
            elif slot.name in sockets:  # optional ones may be left open
                inputs[slot.name] = links[sockets[slot.name]]
        assert list(values) == [], f"{node['type']} has widget values left over"
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _take_widget(slot: Slot, values: Iterator, inputs: dict[str, Any]) -> None:
    value = next(values, None)
    if value is not None:
        inputs[slot.name] = value
    else:  # older workflows do not know of what newer versions brought
        assert slot.hidden or "." in slot.name, f"there is no widget value for {slot.name}"
    if slot.options.get("control_after_generate"):
        next(values)


def _in_order(info: dict) -> dict[str, dict]:
    order = info.get("input_order", {})
    return {group: {name: specs[name] for name in order.get(group, specs)} for group, specs in info["input"].items()}


def settled(graph: dict[str, dict], object_info: dict) -> dict[str, dict]:
    """A workflow in API format as the server reads it: what a choice brought stands in its hidden twin's place."""
    result = {}
    for node, entry in graph.items():
        slots = list(slots_of(object_info[entry["class_type"]]["input"], entry["inputs"]))
        hidden, inputs = {slot.name for slot in slots if slot.hidden}, dict(entry["inputs"])
        for slot in slots:
            twin = slot.name.rpartition(".")[2]
            if twin != slot.name and twin in hidden and slot.name in inputs:
                inputs[twin] = inputs.pop(slot.name)
        result[node] = {"class_type": entry["class_type"], "inputs": inputs}
    return result
