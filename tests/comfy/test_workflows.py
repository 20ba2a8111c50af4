"""The shipped workflows against what a server says of its nodes, and in its template browser."""

import pytest

from . import graphs
from .validation import problems

pytestmark = pytest.mark.comfy

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
BROWSER_ONLY = ("MarkdownNote",)


@pytest.fixture(scope="module")
def object_info(server):
    from .client import ComfyClient

    with ComfyClient(server.url) as connection:
        return connection.get("/object_info")


@pytest.mark.parametrize("name", graphs.NAMES)
def test_workflow_fits_the_server(object_info, name):
    """Forbids workflows with nodes, inputs or choices that are not there, and links of the wrong type."""
    assert problems(graphs.api(name), object_info) == []


@pytest.mark.parametrize("name", graphs.NAMES)
def test_ui_workflow_is_the_api_workflow(object_info, name):
    """Forbids two forms of a workflow that drift apart, widgets out of order, and nodes that nobody has."""
    assert to_api(graphs.ui(name), object_info) == {
        node: {key: entry[key] for key in ("class_type", "inputs")} for node, entry in graphs.api(name).items()
    }


def test_workflows_are_offered_as_templates(client):
    """Forbids a folder name that the template browser does not look into."""
    assert set(client.get("/workflow_templates")["ComfyUI-LongLive"]) == set(graphs.NAMES)


@pytest.mark.parametrize("name", graphs.NAMES)
def test_template_has_its_picture(client, name):
    """Forbids empty cards: the browser asks for a .jpg of the workflow's name, at this address."""
    picture = client.read(f"/api/workflow_templates/ComfyUI-LongLive/{name}.jpg")
    assert picture[:2] == b"\xff\xd8"


def to_api(workflow: dict, object_info: dict) -> dict:
    """What the front end would queue: widgets by position, links by id."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for node in workflow["nodes"]:
        if node["type"] in BROWSER_ONLY:
            continue
        sockets = {socket["name"]: socket["link"] for socket in node["inputs"]}
        values, inputs = iter(node["widgets_values"]), {}
        for name, spec in _inputs(object_info[node["type"]]):
            if spec[0] in WIDGETS or isinstance(spec[0], list):
                inputs[name] = next(values)
                if len(spec) > 1 and spec[1].get("control_after_generate"):
                    next(values)
            elif name in sockets:  # optional ones may be left open
                inputs[name] = links[sockets[name]]
        assert list(values) == [], f"{node['type']} has widget values left over"
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph


def _inputs(info: dict):
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, ()):
            yield name, info["input"][group][name]
