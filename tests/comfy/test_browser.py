"""The workflows in ComfyUI's own browser interface, where a Chromium and playwright are there to run it."""

import json
import os
import shutil

import pytest

from . import graphs

pytestmark = pytest.mark.comfy

# The interface first opens a workflow of its own, which would come over a workflow that is loaded too early.
READY = """() => window.app?.graph?._nodes?.length && window.app.extensionManager?.workflow?.activeWorkflow
  && window.LiteGraph?.registered_node_types?.SaveVideo"""
LOAD_AND_EXPORT = """async (workflow) => {
  await window.app.loadGraphData(workflow);
  return (await window.app.graphToPrompt()).output;
}"""


@pytest.fixture(scope="module")
def page(server):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    settings = server.base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"Comfy.TutorialCompleted": True}), encoding="utf-8")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(180_000)  # milliseconds; a newer interface takes long on a busy machine
        page.goto(server.url)
        page.wait_for_function(READY)
        yield page
        browser.close()


@pytest.mark.parametrize("name", graphs.NAMES)
def test_browser_queues_what_the_api_workflow_says(page, name):
    """Forbids a workflow that the browser reads otherwise than we do: a widget shifted, a link dropped."""
    queued = page.evaluate(LOAD_AND_EXPORT, graphs.ui(name))
    plain = {node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in queued.items()}
    assert plain == {
        node: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for node, entry in graphs.api(name).items()
    }
