"""The shipped workflows against what a server says of its nodes, and in its template browser."""

import pytest

from scripts.harness import graphs
from scripts.templates import ui_path

from .validation import problems, settled, to_api

pytestmark = pytest.mark.comfy


@pytest.mark.parametrize("name", graphs.NAMES)
def test_workflow_fits_the_server(object_info, name):
    """Forbids workflows with nodes, inputs or choices that are not there, and links of the wrong type."""
    assert problems(graphs.api(name), object_info) == []


@pytest.mark.parametrize("name", graphs.NAMES)
def test_ui_workflow_is_the_api_workflow(object_info, name):
    """Forbids two forms of a workflow that drift apart, widgets out of order, and nodes that do not exist."""
    queued = to_api(graphs.ui(name), object_info)
    assert problems(queued, object_info) == []
    assert settled(queued, object_info) == settled(graphs.api(name), object_info)


def test_workflows_are_offered_as_templates(client):
    """Forbids a folder name that the template browser does not look into."""
    assert set(client.get("/workflow_templates")["ComfyUI-LongLive"]) == {ui_path(name).stem for name in graphs.NAMES}


@pytest.mark.parametrize("name", graphs.NAMES)
def test_template_has_its_picture(client, name):
    """Forbids empty cards: the browser requests a .jpg of the workflow's name, at this address."""
    picture = client.read(f"/api/workflow_templates/ComfyUI-LongLive/{ui_path(name).stem}.jpg")
    assert picture[:2] == b"\xff\xd8"
