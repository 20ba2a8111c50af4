"""Every widget of every node of the pack, with values that it does not take: over the API, behind a link whose value is
known when the graph is queued, and behind one that brings it only when the node runs.

The nodes and their widgets are read from their schemas, so a new one is tested without a change here.
"""

import pytest

from longlive_core.timeline.limits import MAX_TEXT
from scripts.harness import graphs
from scripts.harness.graphs import SAMPLER

pytestmark = pytest.mark.slow

NAN, INFINITY = float("nan"), float("inf")
NEVER = {
    "true": True,
    "false": False,
    "a text": "x",
    "no text": "",
    "a list": [],
    "numbers": [1, 2, 3],
    "an object": {},
    "NaN": NAN,
    "infinity": INFINITY,
    "minus infinity": -INFINITY,
    "NaN in text": "NaN",
    "infinity in text": "-inf",
    "more than a float": "1e999",
    "10^30": 10**30,
    "-10^30": -(10**30),
    "10^400": 10**400,
    "10^30 in text": str(10**30),
}
NO_TEXT = {
    "true": True,
    "0": 0,
    "5": 5,
    "5.5": 5.5,
    "NaN": NAN,
    "null": None,
    "a list": [],
    "texts": ["0s a"],
    "an object": {},
    "a book": "a b " * (MAX_TEXT // 4 + 1),
}
NO_CHOICE = {**NEVER, "a page": "x" * 100_000, "null": None, "half": 0.5, "number in text": "3"}
NOT_WHOLE = {"1.5": 1.5, "-0.5": -0.5, "1.5 in text": "1.5"}


def bad_values(widget: dict) -> dict:
    """Name -> value, of those that a widget never takes."""
    if widget["kind"] == "COMBO":
        return {name: value for name, value in NO_CHOICE.items() if value not in widget["options"] or value is True}
    if widget["kind"] == "STRING":
        return NO_TEXT
    outside = {"below": widget["min"] - 1, "above": widget["max"] * 2 + 1, "above in text": f"{widget['max'] * 2 + 1}"}
    return {**NEVER, **outside, **(NOT_WHOLE if widget["kind"] == "INT" else {}), "null": None}


@pytest.fixture(scope="module")
def widgets(inside):
    found = inside.ask({"widgets": True})
    assert len(found) > 5 and {"INT", "FLOAT", "STRING", "COMBO"} == {
        widget["kind"] for node in found.values() for widget in node.values()
    }
    return [(kind, name, widget) for kind, node in found.items() for name, widget in node.items()]


def graph_of_all() -> dict:
    """A graph that has every node of the pack with widgets, each of which runs."""
    graph = graphs.film(graphs.POCKET)
    graph["8"] = {"class_type": "LongLiveLoadTake", "inputs": {"name": "newest"}}
    graph["7"] = {"class_type": "LongLiveBranchTake", "inputs": {"take": ["8", 0], "at": "2s"}}
    graph[SAMPLER]["inputs"]["take"] = ["7", 0]
    graph["5"] = {"class_type": "LongLiveTakeFrames", "inputs": {"take": [SAMPLER, 1], "first": 0, "frames": 48}}
    graph["6"] = {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}}
    return graph


def with_value(kind: str, name: str, value) -> tuple[dict, str]:
    graph = graph_of_all()
    (node,) = (number for number, entry in graph.items() if entry["class_type"] == kind)
    graph[node]["inputs"][name] = value
    return graph, node


def test_the_graph_itself_is_good(inside, widgets):
    """Forbids tests that only find what is refused anyway; and a node of the pack that they do not look at."""
    assert inside.errors(graph_of_all()) == []
    assert {kind for kind, _, _ in widgets} <= {entry["class_type"] for entry in graph_of_all().values()}


def test_no_widget_takes_what_is_out_of_its_bounds(inside, widgets):
    """Forbids values that the browser would never send, of a client that sends them."""
    taken = []
    for kind, name, widget in widgets:
        for what, value in bad_values(widget).items():
            graph, node = with_value(kind, name, value)
            errors = inside.errors(graph)
            if not errors or any(error[0] != node for error in errors):
                taken.append((kind, name, what, errors))
    assert taken == [], "\n".join(map(str, taken))


CONSTANTS = {
    "INT": ("PrimitiveInt", (int,)),
    "FLOAT": ("PrimitiveFloat", (int, float)),
    "STRING": ("PrimitiveString", (str,)),
}


def test_no_link_brings_it_there_either(inside, widgets):
    """Forbids what a constant node hands on, at which ComfyUI does not look."""
    taken, looked_at = [], 0
    for kind, name, widget in widgets:
        if widget["kind"] not in CONSTANTS:
            continue
        source, types = CONSTANTS[widget["kind"]]
        for what, value in bad_values(widget).items():
            if isinstance(value, bool) or not isinstance(value, types):
                continue
            graph, _ = with_value(kind, name, ["9", 0])
            graph["9"] = {"class_type": source, "inputs": {"value": value}}
            looked_at += 1
            if not inside.errors(graph):
                taken.append((kind, name, what))
    assert taken == [] and looked_at > 50


SAYS = "characters", "no place", "does not name a", "in models/"


def test_running_takes_it_no_more(inside, widgets):
    """Forbids bounds that hold at queueing alone: a link may bring anything when the node runs."""
    needed = {
        "LongLivePromptTimeline": {"clip": 1},
        "LongLiveStreamSampler": {"model": 1, "vae": 1, "timeline": 1},
        "LongLiveTakeFrames": {"take": None},
        "LongLiveBranchTake": {"take": None},
    }
    defaults = {}
    for kind, name, widget in widgets:
        defaults.setdefault(kind, {})[name] = widget["default"]
    taken = []
    for kind, name, widget in widgets:
        for what, value in bad_values(widget).items():
            if value is None and widget["default"] is None:
                continue  # as if it were not connected
            inputs = {
                key: known for key, known in {**defaults[kind], name: value}.items() if known is not None or key == name
            }
            raised = inside.ask({"execute": kind, "inputs": {**needed.get(kind, {}), **inputs}})["raised"]
            says = raised is not None and len(raised) < 500 and any(word in raised for word in (f"{name} ", *SAYS))
            if not says:
                taken.append((kind, name, what, raised))
    assert taken == [], "\n".join(map(str, taken))


def test_the_ends_of_every_range_are_taken(inside, widgets):
    """Forbids bounds that are one off, and choices that are shown and refused."""
    refused = []
    for kind, name, widget in widgets:
        for value in {"STRING": [], "COMBO": widget["options"]}.get(widget["kind"], [widget["min"], widget["max"]]):
            errors = inside.errors(with_value(kind, name, value)[0])
            refused += [
                (kind, name, value, said)
                for _, _, said in errors
                if f"{name} is {value!r}: " in said or f"{name} {value!r}: " in said
            ]
    assert refused == []


STORY = "\n".join(f"{number}s The ball is at {number}." for number in range(40))


def test_nodes_ask_whether_they_were_cancelled(inside):
    """Forbids a node that is deaf until a film is rendered: reading and encoding a timeline may take long, too."""
    request = {"execute": "LongLivePromptTimeline", "inputs": {"clip": 1, "text": STORY, "duration": -1.0, "fps": 16.0}}
    assert inside.ask({**request, "cancelled": True})["raised"] == "cancelled"
    assert inside.ask(request)["raised"] is None
