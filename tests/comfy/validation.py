"""Whether a server would take a workflow, judged by its /object_info; no file of weights has to be there.

Wiring is checked in both directions (every input that a node needs, no input that it does not have, types of links),
and widgets by type, range and choices. Choices that are names of files are left out: those depend on the machine.
"""

from __future__ import annotations

from typing import Any

NOT_FILES = "none", "from the model"  # choices of Load LongLive's lists that every machine has
FILE_INPUTS = {
    ("LongLiveLoad", "model"), ("LongLiveLoad", "lora"), ("LongLiveLoad", "text_encoder"), ("LongLiveLoad", "vae"),
    ("UNETLoader", "unet_name"), ("CLIPLoader", "clip_name"), ("VAELoader", "vae_name"),
    ("LoraLoaderModelOnly", "lora_name"),
}  # fmt: skip
SCALARS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}


def problems(graph: dict[str, dict], object_info: dict[str, dict]) -> list[str]:
    """What is wrong with a workflow in API format; empty where nothing is."""
    found = []
    for node, entry in graph.items():
        kind = entry["class_type"]
        if kind not in object_info:
            found.append(f"node {node}: no server has a node {kind}")
            continue
        found += [f"node {node} ({kind}): {text}" for text in _of_node(kind, entry["inputs"], graph, object_info)]
    return found


def files_of(graph: dict[str, dict]) -> set[str]:
    """The names of files that a workflow asks for."""
    chosen = {
        entry["inputs"][name] for entry in graph.values() for kind, name in FILE_INPUTS
        if entry["class_type"] == kind and name in entry["inputs"]
    }  # fmt: skip
    return {name for name in chosen if name not in NOT_FILES and not name.endswith("(built-in)")}


def _of_node(kind: str, inputs: dict[str, Any], graph: dict, object_info: dict) -> list[str]:
    groups = object_info[kind]["input"]
    required, optional = groups.get("required", {}), groups.get("optional", {})
    found = [f"input {name} is missing" for name in required if name not in inputs]
    for name, value in inputs.items():
        spec = required.get(name) or optional.get(name)
        if spec is None:
            found.append(f"it has no input {name}")
        elif isinstance(value, list):
            found += _of_link(name, value, spec[0], graph, object_info)
        else:
            found += _of_widget(kind, name, value, spec)
    return found


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


def _of_widget(kind: str, name: str, value: Any, spec: list) -> list[str]:
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", []) if spec[0] == "COMBO" else None
    if choices is not None:
        is_choice = value in choices or (kind, name) in FILE_INPUTS
        return [] if is_choice else [f"{name} is {value!r}, which is none of {choices}"]
    if spec[0] not in SCALARS:
        return [f"{name} is {value!r}, but takes a link of type {spec[0]}"]
    if not isinstance(value, SCALARS[spec[0]]) or (isinstance(value, bool) and spec[0] != "BOOLEAN"):
        return [f"{name} is {value!r}, but takes {spec[0]}"]
    low, high = options.get("min"), options.get("max")
    if (low is not None and value < low) or (high is not None and value > high):
        return [f"{name} is {value}, but goes from {low} to {high}"]
    return []
