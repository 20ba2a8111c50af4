"""The order of the nodes' widgets: workflows keep their values by position."""

import ast

import pytest

from scripts.harness import graphs
from scripts.workflow_graph import SEED_CONTROL

from .hosts.fakes import NEW, Host

# **Only append** to a list here, never insert or reorder: a saved workflow would give its values to other widgets.
ORDER = {
    "LongLiveLoad": ["model", "lora", "text_encoder", "vae", "dtype", "weights"],
    "LongLivePromptTimeline": ["text", "duration", "fps"],
    "LongLiveStreamSampler": [
        "seed",
        "size",
        "width",
        "height",
        "on_cancel",
        "steps",
        "shift",
        "window",
        "sink",
        "sink_policy",
        "chunk",
        "positions",
    ],
}
ADVANCED = ["steps", "shift", "window", "sink", "sink_policy", "chunk", "positions"]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    """The inputs of the nodes as a newer ComfyUI is given them, by node: [{id, default, ...}, ...]."""
    with Host(NEW, tmp_path_factory.mktemp("host")).pack() as package:
        nodes = package.nodes
        classes = (nodes.LongLiveLoad, nodes.LongLivePromptTimeline, nodes.LongLiveStreamSampler)
        given = [node.define_schema().given for node in classes]
    return {schema["node_id"]: [each.given for each in schema["inputs"]] for schema in given}


@pytest.mark.parametrize("node", ORDER)
def test_widgets_stay_in_their_places(schemas, node):
    """Forbids a widget that is put in between: every saved workflow would shift."""
    inputs = schemas[node]
    widgets = [each["id"] for each in inputs if "default" in each]
    assert widgets[: len(ORDER[node])] == ORDER[node]
    optional = [bool(each.get("optional")) for each in inputs]
    assert optional == sorted(optional), "ComfyUI puts required inputs first, so the order would be another one there"


def test_only_seed_and_sockets_are_needed(schemas):
    """Forbids a widget that programs must send although it has a default, and advanced ones among the usual ones."""
    inputs = schemas["LongLiveStreamSampler"]
    assert [each["id"] for each in inputs if not each.get("optional")] == ["model", "vae", "timeline", "seed"]
    assert [each["id"] for each in inputs if each.get("advanced")] == ADVANCED == [each["id"] for each in inputs][-7:]


@pytest.mark.parametrize("name", graphs.NAMES)
def test_shipped_workflows_have_that_order(name):
    """Forbids a shipped workflow whose values stand where other widgets are."""
    api, workflow = graphs.api(name), graphs.ui(name)
    for node in workflow["nodes"]:
        order = ORDER.get(node["type"])
        if order is None:
            continue
        inputs = api[str(node["id"])]["inputs"]
        values = [inputs[widget] for widget in order]
        assert [value for value in node["widgets_values"] if value != SEED_CONTROL] == values
        if "seed" in order:
            assert node["widgets_values"][order.index("seed") + 1] == SEED_CONTROL


def test_the_rule_stands_where_inputs_are_defined():
    """Forbids a new widget that is not at the end."""
    source = (graphs.WORKFLOWS.parent / "nodes" / "inputs.py").read_text(encoding="utf-8")
    assert "**only append**" in ast.get_docstring(ast.parse(source))
