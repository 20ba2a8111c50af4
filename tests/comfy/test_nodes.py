"""What ComfyUI and its front end get to know of the nodes."""

import re
import urllib.error

import pytest

pytestmark = pytest.mark.comfy

PICTURE_BYTES = 60_000
OURS = (
    "LongLiveLoad",
    "LongLivePromptTimeline",
    "LongLiveStreamSampler",
    "LongLiveQuantizeINT8",
    "LongLiveTakeFrames",
    "LongLiveLoadTake",
    "LongLiveBranchTake",
)


@pytest.mark.parametrize("node", OURS)
def test_node_is_there_and_every_input_has_a_tooltip(object_info, node):
    """Forbids a pack that fails to import, and inputs that explain nothing."""
    info = object_info[node]
    assert info["category"] == "LongLive"
    inputs = {name: spec for group in info["input"].values() for name, spec in group.items()}
    assert inputs
    assert [name for name, spec in inputs.items() if not spec[1].get("tooltip")] == []


@pytest.mark.parametrize("node", OURS)
def test_help_page_explains_every_input_and_shows_the_node(client, object_info, node):
    """Forbids a web folder that is not served, a node without its page, inputs left out, pictures that do not load."""
    folder = "/extensions/ComfyUI-LongLive/docs"
    try:
        page = client.read(f"{folder}/{node}.md").decode()
        pictures = [client.read(f"{folder}/{name}") for name in re.findall(r"!\[.*?\]\((.+?)\)", page)]
    except urllib.error.HTTPError as error:
        pytest.fail(f"not served: {error.url}")
    assert page.startswith("# ")
    names = [name for group in object_info[node]["input"].values() for name in group]
    assert [name for name in names if f"**{name}**" not in page] == []
    assert pictures
    assert all(picture[:4] == b"RIFF" and len(picture) < PICTURE_BYTES for picture in pictures)


def test_prompts_are_literal(object_info):
    """Forbids the front end's {a|b} templates, which would eat a timeline's options in braces."""
    assert object_info["LongLivePromptTimeline"]["input"]["required"]["text"][1]["dynamicPrompts"] is False
