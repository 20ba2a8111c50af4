"""What ComfyUI and its front end get to know of the nodes."""

import urllib.error

import pytest

from . import graphs

pytestmark = pytest.mark.comfy

OURS = ("LongLiveLoad", "LongLivePromptTimeline", "LongLiveStreamSampler", "LongLiveQuantizeINT8")
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@pytest.fixture(scope="module")
def object_info(server):
    from .client import ComfyClient

    with ComfyClient(server.url) as connection:
        return connection.get("/object_info")


@pytest.mark.parametrize("node", OURS)
def test_node_is_there_and_every_input_has_a_tooltip(object_info, node):
    """Forbids a pack that fails to import, and inputs that explain nothing."""
    info = object_info[node]
    assert info["category"] == "LongLive"
    inputs = {name: spec for group in info["input"].values() for name, spec in group.items()}
    assert inputs
    assert [name for name, spec in inputs.items() if not spec[1].get("tooltip")] == []


@pytest.mark.parametrize("node", OURS)
def test_node_has_a_help_page(client, node):
    """Forbids a web folder that is not served, and a node without its page."""
    try:
        page = client.read(f"/extensions/ComfyUI-LongLive/docs/{node}.md").decode()
    except urllib.error.HTTPError as error:
        pytest.fail(f"no help page: {error}")
    assert page.startswith("# ")


def test_prompts_are_literal(object_info):
    """Forbids the front end's {a|b} templates, which would eat a timeline's options in braces."""
    assert object_info["LongLivePromptTimeline"]["input"]["required"]["text"][1]["dynamicPrompts"] is False


@pytest.mark.parametrize("name", graphs.NAMES)
def test_ui_workflow_is_the_api_workflow(object_info, name):
    """Forbids two forms of a workflow that drift apart, widgets out of order, and nodes that nobody has."""
    assert to_api(graphs.ui(name), object_info) == {
        node: {key: entry[key] for key in ("class_type", "inputs")} for node, entry in graphs.api(name).items()
    }


def test_workflows_are_offered_as_templates(client):
    """Forbids a folder name that the template browser does not look into."""
    assert set(client.get("/workflow_templates")["ComfyUI-LongLive"]) == set(graphs.NAMES)


def to_api(workflow: dict, object_info: dict) -> dict:
    """What the front end would queue: widgets by position, links by id."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        sockets = {socket["name"]: socket["link"] for socket in node["inputs"]}
        values, inputs = iter(node["widgets_values"]), {}
        for name, spec in _inputs(object_info[node["type"]]):
            if spec[0] in WIDGETS or isinstance(spec[0], list):
                inputs[name] = next(values)
                if spec[1].get("control_after_generate"):
                    next(values)
            else:
                inputs[name] = links[sockets[name]]
        assert list(values) == [], f"{node['type']} has widget values left over"
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _inputs(info: dict):
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, ()):
            yield name, info["input"][group][name]
