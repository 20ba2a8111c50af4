"""What ComfyUI and its front end get to know of the nodes."""

import urllib.error

import pytest

pytestmark = pytest.mark.comfy

OURS = ("LongLiveLoad", "LongLivePromptTimeline", "LongLiveStreamSampler")


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
