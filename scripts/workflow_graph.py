"""Describe a workflow once and write it in both of ComfyUI's formats: UI (for the browser) and API (for programs).

The UI format is positional: widget values are in the order of a node's schema, and links are rows. So `add` takes a
node's inputs in that order; tests/comfy/test_workflows.py compares the result with a server's /object_info.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

NOTE = "MarkdownNote"  # exists in the browser only, not on the server


@dataclass(frozen=True)
class Kind:
    """A type of node: its title, its outputs as (name, type), its size in the browser [width, height]."""

    title: str
    outputs: tuple[tuple[str, str], ...]
    size: tuple[int, int]


def _same(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, name) for name in names)


KINDS = {
    "LongLiveLoad": Kind("Load LongLive", _same("MODEL", "CLIP", "VAE"), (330, 210)),
    "LongLivePromptTimeline": Kind("Prompt Timeline", (("TIMELINE", "LONGLIVE_TIMELINE"),), (600, 400)),
    "LongLiveStreamSampler": Kind("Stream Sampler", (("VIDEO", "VIDEO"), ("TAKE", "LONGLIVE_TAKE")), (330, 500)),
    "LongLiveTakeFrames": Kind(
        "Take Frames", (("IMAGE", "IMAGE"), ("LATENT", "LATENT"), ("LAST FRAME", "IMAGE")), (330, 140)
    ),
    "LongLiveLoadTake": Kind("Load Take", (("TAKE", "LONGLIVE_TAKE"),), (480, 90)),
    "LongLiveBranchTake": Kind("Branch Take", (("TAKE", "LONGLIVE_TAKE"),), (480, 90)),
    "SaveImage": Kind("Save Image", (), (420, 420)),
    "SaveVideo": Kind("Save Video", (), (420, 420)),
    "UNETLoader": Kind("Load Diffusion Model", _same("MODEL"), (330, 90)),
    "CLIPLoader": Kind("Load CLIP", _same("CLIP"), (330, 110)),
    "VAELoader": Kind("Load VAE", _same("VAE"), (330, 60)),
    "LoraLoaderModelOnly": Kind("LoraLoaderModelOnly", _same("MODEL"), (330, 90)),
    "LongLiveQuantizeINT8": Kind("Quantize INT8", _same("MODEL"), (330, 110)),
    NOTE: Kind("Note", (), (420, 200)),
}
SEED_CONTROL = "fixed"  # the browser's widget after a seed: how the seed changes after a run


@dataclass(frozen=True)
class Output:
    """An output of a node, to which an input can be linked."""

    node: int
    slot: int
    type: str


@dataclass
class Node:
    """A node; each input is a widget's value or an `Output` of another node."""

    id: int
    kind: str
    at: tuple[int, int]
    size: tuple[int, int]
    inputs: dict[str, Any]

    def __getitem__(self, name: str) -> Output:
        outputs = KINDS[self.kind].outputs
        slot = [output for output, _ in outputs].index(name)
        return Output(self.id, slot, outputs[slot][1])

    @property
    def links(self) -> dict[str, Output]:
        return {name: value for name, value in self.inputs.items() if isinstance(value, Output)}

    @property
    def widgets(self) -> list[Any]:
        values = []
        for name, value in self.inputs.items():
            if not isinstance(value, Output):
                values += [value, SEED_CONTROL] if name == "seed" else [value]
        return values


@dataclass
class Graph:
    """A workflow: nodes in the order in which they run."""

    name: str
    nodes: list[Node] = field(default_factory=list)

    def add(self, kind: str, at: tuple[int, int], size: tuple[int, int] | None = None, /, **inputs: Any) -> Node:
        """Append a node at (x, y); `inputs` in its schema's order, each a value or another node's `node["OUT"]`."""
        node = Node(len(self.nodes) + 1, kind, at, size or KINDS[kind].size, inputs)
        self.nodes.append(node)
        return node

    def api(self) -> dict[str, dict]:
        """Return the workflow in API format, as posted to /prompt."""
        return {
            str(node.id): {
                "class_type": node.kind,
                "inputs": {name: _api_value(v) for name, v in node.inputs.items()},
                "_meta": {"title": KINDS[node.kind].title},
            }
            for node in self.nodes
            if node.kind != NOTE
        }

    def ui(self) -> dict[str, Any]:
        """Return the workflow in UI format (0.4), as the browser opens it."""
        links, rows = {}, []
        for node in self.nodes:
            for slot, (name, output) in enumerate(node.links.items()):
                links[node.id, name] = number = len(rows) + 1
                rows.append([number, output.node, output.slot, node.id, slot, output.type])
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"longlive/workflows/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(rows),
            "nodes": [_ui_node(node, links, rows) for node in self.nodes],
            "links": rows,
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }


def _api_value(value: Any) -> Any:
    return [str(value.node), value.slot] if isinstance(value, Output) else value


def _ui_node(node: Node, links: dict[tuple[int, str], int], rows: list[list]) -> dict[str, Any]:
    outputs = [
        {"name": name, "type": kind, "links": [row[0] for row in rows if row[1:3] == [node.id, slot]]}
        for slot, (name, kind) in enumerate(KINDS[node.kind].outputs)
    ]
    return {
        "id": node.id,
        "type": node.kind,
        "pos": list(node.at),
        "size": list(node.size),
        "flags": {},
        "order": node.id - 1,
        "mode": 0,
        "inputs": [
            {"name": name, "type": output.type, "link": links[node.id, name]} for name, output in node.links.items()
        ],
        "outputs": outputs,
        "properties": {"Node name for S&R": node.kind},
        "widgets_values": node.widgets,
    }
