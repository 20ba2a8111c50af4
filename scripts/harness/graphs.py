"""The shipped workflows, and short films based on one of them, in API format."""

from __future__ import annotations

import copy
import json

from scripts import templates

WORKFLOWS = templates.FOLDER
NAMES = sorted(templates.NAMES)  # `templates` has the names of their files
REAL_NAMES = [name for name in NAMES if name.endswith("_1_3b")]  # for LongLive's own files, which tests do not have
POCKET_NAMES = [name for name in NAMES if name not in REAL_NAMES]
ENDLESS = ["live"]  # they run until the user finishes them
EXTENDING = ["branch", "extend"]  # their films extend a take
LOAD, TIMELINE, SAMPLER, SAVE = "1", "2", "3", "4"  # node ids in one_prompt
# Files of Load LongLive. Tests of pictures use the pocket model, all others a tiny random one (tests/tiny.py).
TINY = {"model": "tiny_dit.safetensors", "vae": "tiny_vae.safetensors"}
TINY_SIZE = {"width": 64, "height": 48}
POCKET = {"model": "pocket (built-in)", "vae": "from the model"}

TEXT = "0s A red ball bounces on a meadow.\n1.5s A blue ball bounces on a meadow."
SECONDS = 2.0  # 3 chunks, 33 frames


def ui(name: str) -> dict:
    return json.loads(templates.ui_path(name).read_text(encoding="utf-8"))


def api(name: str) -> dict:
    return json.loads(templates.api_path(name).read_text(encoding="utf-8"))


def of_kind(graph: dict, kind: str) -> list[str]:
    """Return the ids of all nodes of a type."""
    return [node for node, entry in graph.items() if entry["class_type"] == kind]


def films_of(graph: dict) -> list[tuple[str, str, str]]:
    """Return the node ids (timeline, sampler, saver) of every film of a workflow."""
    films = []
    for saver in of_kind(graph, "SaveVideo"):
        sampler = graph[saver]["inputs"]["video"][0]
        films.append((graph[sampler]["inputs"]["timeline"][0], sampler, saver))
    return films


def film(files: dict = TINY, **inputs) -> dict:
    """Return the graph of a short film with two prompts; each keyword replaces all inputs of that name."""
    graph = copy.deepcopy(api("one_prompt"))
    graph[LOAD]["inputs"].update(files)
    for name, value in {"text": TEXT, "duration": SECONDS, **inputs}.items():
        owners = [node for node in graph.values() if name in node["inputs"]]
        assert owners, f"no node has an input {name}"
        for node in owners:
            node["inputs"][name] = value
    return graph


def with_tiny_files(graph: dict) -> dict:
    """Return a workflow for the pocket model with the tiny model's files in all loaders, and a small size."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"] == "LongLiveLoad":
            inputs.update(TINY)
        if node["class_type"] == "LongLiveStreamSampler":
            inputs.update(TINY_SIZE, size="auto")
        inputs.update(
            {name: TINY[part] for name, part in (("unet_name", "model"), ("vae_name", "vae")) if name in inputs}
        )
    return graph
