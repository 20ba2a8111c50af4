"""The workflows in ComfyUI's own browser interface, if Chromium and playwright are installed."""

import json
import os
import shutil

import pytest

from longlive_core.takes import TakeStore
from longlive_core.takes.labels import take_choices
from scripts.harness import graphs
from scripts.harness.graphs import SAMPLER
from scripts.harness.server import PACK_NAME

from ..made_takes import manifest, place
from .validation import problems, settled

WORDS = json.loads((graphs.WORKFLOWS.parent / "web" / "search_words.json").read_text(encoding="utf-8"))

pytestmark = pytest.mark.comfy

DEFAULTS = {
    "seed": 0,
    "size": "auto",
    "width": 0,
    "height": 0,
    "on_cancel": "keep partial",
    "steps": 4,
    "shift": 5,
    "window": 12,
    "sink": 3,
    "sink_policy": "held",
    "chunk": 3,
    "positions": "auto",
}

# The interface first opens a workflow of its own, which would come over a workflow that is loaded too early.
READY = """() => window.app?.graph?._nodes?.length && window.app.extensionManager?.workflow?.activeWorkflow
  && window.LiteGraph?.registered_node_types?.SaveVideo"""
LOAD_AND_EXPORT = """async (workflow) => {
  await window.app.loadGraphData(workflow);
  return (await window.app.graphToPrompt()).output;
}"""
# `longliveEnd` becomes the name of the event with which the prompt ends.
LOAD_AND_QUEUE = """async (workflow) => {
  const { app } = window, { api } = app;
  await app.loadGraphData(workflow);
  window.longliveEnd = null;
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"]) {
    api.addEventListener(kind, () => { window.longliveEnd = kind; }, { once: true });
  }
  await app.queuePrompt(0);
}"""
# What is out of sight, or small, is hidden; the interface itself fits the view some time after it loaded a workflow.
SHOW_SAMPLER = """() => {
  const { graph, canvas } = window.app;
  const [x, y] = graph.nodes.find((node) => node.type === "LongLiveStreamSampler").pos;
  canvas.ds.scale = 0.8;
  canvas.ds.offset = [300 - x, 100 - y];
  canvas.setDirty(true, true);
}"""
LINE_HAS = "(text) => document.querySelector('.longlive-line')?.textContent.includes(text)"
FILM_PLAYS = """(name) => {
  const film = document.querySelector('.longlive-live video');
  return film?.videoWidth > 0 && film.currentTime > 0 && film.currentSrc.includes(name);
}"""
FILM_ENDED = "() => document.querySelector('.longlive-live video').ended"

EMPTY_GRAPH = "() => { window.app.graph.clear(); window.app.canvas.ds.reset(); }"
# Of the only sampler: its widgets in the order in which they are saved, and what is queued of them.
NEW_SAMPLER = """async () => {
  const node = window.app.graph.nodes.find((each) => each.type === "LongLiveStreamSampler");
  const saved = node.widgets.filter((widget) => widget.serialize !== false);
  const { output } = await window.app.graphToPrompt();
  return { order: saved.map((widget) => widget.name), values: saved.map((widget) => widget.value),
    queued: output[node.id].inputs };
}"""
LOAD_CONTROL = """async (workflow) => {
  await window.app.loadGraphData(workflow);
  const node = window.app.graph.nodes.find((each) => each.type === "LongLiveStreamSampler");
  return node.widgets[1].value;
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
        page.set_default_timeout(600_000)  # milliseconds; a newer interface takes long on a busy machine
        page.goto(server.url)
        page.wait_for_function(READY)
        yield page
        browser.close()


@pytest.mark.parametrize("name", graphs.NAMES)
def test_browser_queues_what_the_api_workflow_says(page, object_info, name):
    """Forbids a workflow that the browser reads otherwise than we do: a widget shifted, a link dropped."""
    queued = page.evaluate(LOAD_AND_EXPORT, graphs.ui(name))
    assert problems(queued, object_info) == []
    assert settled(queued, object_info) == settled(graphs.api(name), object_info)


def test_a_sampler_from_the_search_box_keeps_its_seed(page):
    """Forbids a seed that changes after every run, so that queueing again renders another film; widgets in
    another order than they are saved in; and a saved workflow's own choice that is lost."""
    page.evaluate(EMPTY_GRAPH)
    page.mouse.dblclick(640, 360)
    page.wait_for_function("() => document.activeElement?.tagName === 'INPUT'")
    page.keyboard.type("Stream Sampler")
    page.get_by_text("Stream Sampler", exact=True).first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.app.graph.nodes.some((node) => node.type === 'LongLiveStreamSampler')")
    made = page.evaluate(NEW_SAMPLER)
    assert [made["order"][0], *made["order"][2:]] == list(DEFAULTS)  # what the second one is called differs
    assert made["values"] == [DEFAULTS["seed"], "fixed", *list(DEFAULTS.values())[1:]]
    assert made["queued"] == DEFAULTS
    workflow = graphs.ui("one_prompt")
    sampler = next(node for node in workflow["nodes"] if node["type"] == "LongLiveStreamSampler")
    sampler["widgets_values"][1] = "increment"
    assert page.evaluate(LOAD_CONTROL, workflow) == "increment"


def test_live_panel_steers_the_film(page, client):
    """Forbids a panel that does not appear, shows no film, sends no prompt, cannot finish, or changes the workflow."""
    typed = "A blue star circles on a meadow."
    assert page.locator(".longlive-live").count() == 0
    page.evaluate(LOAD_AND_QUEUE, graphs.ui("live"))
    page.wait_for_function(LINE_HAS, arg=" chunks")
    page.evaluate(SHOW_SAMPLER)
    page.wait_for_function(FILM_PLAYS, arg="growing.mp4")
    line = page.get_by_placeholder("next prompt")
    line.fill(typed)
    line.press("Enter")
    page.wait_for_function(LINE_HAS, arg=f" on: {typed}")
    page.wait_for_function(LINE_HAS, arg=f"frames/s\n{typed}")
    page.locator(".longlive-live").get_by_role("button", name="Finish").click()
    page.wait_for_function("() => window.longliveEnd")
    assert page.evaluate("() => window.longliveEnd") == "execution_success"
    page.wait_for_function(FILM_PLAYS, arg="film.mp4")
    page.wait_for_function(FILM_ENDED)
    assert page.evaluate(FILM_PLAYS, "film.mp4")
    assert line.is_disabled()
    newest = client.get("/longlive/takes")["takes"][0]
    assert newest["segments"][-1]["text"] == typed
    assert newest["rendered"] == newest["chunks"]
    queued = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert queued[SAMPLER]["inputs"] == graphs.api("live")[SAMPLER]["inputs"]
    ours = "(w) => w.serialize !== false && w.name.startsWith('longlive')"
    assert page.evaluate(f"(id) => window.app.graph.getNodeById(id).widgets.filter({ours}).length", int(SAMPLER)) == 0


# Nodes narrower than their widgets want to be; `size` is [width, height].
NARROW, LONG_PROMPT = 240, "A red ball bounces on a meadow and then goes on to bounce for as long as anybody looks."
LOAD_NARROW = """async ([workflow, width, text]) => {
  const { app } = window;
  await app.loadGraphData(workflow);
  for (const node of app.graph.nodes.filter((node) => node.type.startsWith("LongLive"))) {
    node.setSize([width, node.size[1]]);
    const set = (name, value) => {
      const widget = node.widgets.find((widget) => widget.name === name);
      if (widget) widget.value = value;
    };
    set("text", text);
    set("duration", 1.0);
    set("seed", 4242);
  }
  window.longliveEnd = null;
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"]) {
    app.api.addEventListener(kind, () => { window.longliveEnd = kind; }, { once: true });
  }
  await app.queuePrompt(0);
}"""
# Of the nodes with a report: their width, widgets of the front end's own beside them, and their elements.
LOOKS = """() => {
  const { app } = window;
  const reporting = (node) => node.widgets?.some((widget) => widget.name.startsWith("longlive"));
  return app.graph.nodes.filter(reporting).map((node) => {
    const { element } = node.widgets.find((widget) => widget.name.startsWith("longlive"));
    const block = element.querySelector(".longlive-line") ?? element;
    return {
      type: node.type, width: node.size[0], text: block.textContent, wide: block.scrollWidth - block.clientWidth,
      low: block.getBoundingClientRect().bottom - element.parentElement.getBoundingClientRect().bottom,
      films: element.querySelectorAll("video, img, canvas").length, stills: node.imgs?.length ?? 0,
      hosts: node.widgets.filter((widget) => widget.name.startsWith("$$")).length,
      needed: node.computeSize()[1], height: node.size[1],
    };
  });
}"""
SHOW_ALL = """() => {
  const { graph, canvas } = window.app;
  canvas.ds.scale = 0.9;
  canvas.ds.offset = [100 - graph.nodes.find((node) => node.type === "LongLivePromptTimeline").pos[0], 60];
  canvas.setDirty(true, true);
}"""
REPORTS_SHOW = """() => window.longliveEnd && [...document.querySelectorAll(".longlive-report, .longlive-line")]
  .filter((block) => block.clientHeight > 0).length === 2"""


def test_reports_fit_their_nodes(page):
    """Forbids reports that widen a node, are cut or stick out of it, and a film that is shown twice."""
    page.evaluate(LOAD_NARROW, [graphs.ui("one_prompt"), NARROW, LONG_PROMPT])
    page.wait_for_function("() => window.longliveEnd")
    assert page.evaluate("() => window.longliveEnd") == "execution_success"
    page.evaluate(SHOW_ALL)
    page.wait_for_function(REPORTS_SHOW)
    timeline, sampler = page.evaluate(LOOKS)
    assert (timeline["type"], sampler["type"]) == ("LongLivePromptTimeline", "LongLiveStreamSampler")
    for node in (timeline, sampler):
        assert node["width"] == NARROW
        assert node["wide"] == 0 and node["low"] <= 0, node
        assert node["height"] >= node["needed"]
        assert (node["stills"], node["hosts"]) == (0, 0)
        assert "/" not in node["text"].replace("frames/s", "")  # no path
    assert (timeline["films"], sampler["films"]) == (0, 1)
    assert timeline["text"].startswith("1.31 s: 2 chunks, 21 frames at 16 fps\n0 s: A red ball bounces")
    assert sampler["text"].startswith("1.31 s: 21 frames, ")


FIND = """([words, limit]) => {
  const { _s } = document.getElementById("vue-app").__vue_app__.config.globalProperties.$pinia;
  const search = (word) => _s.get("nodeDef").nodeSearchService.searchNode(word, [], { limit });
  return words.map((word) => search(word).map((node) => node.name));
}"""


def test_search_words_find_the_nodes(page):
    """Forbids nodes that only those find who know their names: older front ends know no search words."""
    words = [(node, word) for node, words in WORDS.items() for word in words]
    found = page.evaluate(FIND, [[word for _, word in words], 10])
    assert [pair for pair, names in zip(words, found, strict=True) if pair[0] not in names] == []
    part, letter = page.evaluate(FIND, [["storybo", "k"], 10])
    assert "LongLivePromptTimeline" in part
    assert not any(name.startswith("LongLive") for name in letter)


def test_templates_stand_in_their_order(page):
    """Forbids the disk's order, which is arbitrary: the server lists the files as it finds them."""
    listed = page.evaluate("async (pack) => (await window.app.api.getWorkflowTemplates())[pack]", PACK_NAME)
    assert listed == sorted(listed) and len(listed) == len(graphs.NAMES)


# --- Load Take's list

# Load Take's nodes: what is chosen in each, and the ids in its list, oldest words first.
# (By their ids: what is clicked comes last among the graph's nodes.)
LISTED = """() => [1, 2, 3, 4].map((id) => window.app.graph.getNodeById(id)).map((node) => {
  const { value, options } = node.widgets.find((widget) => widget.name === "name");
  return { value, listed: options.values.map((label) => label.match(/\\[(.*)\\]$/)?.[1] ?? label) };
})"""
HAVE = """(id) => window.app.graph.nodes.filter((node) => node.type === "LongLiveLoadTake")
  .every((node) => node.widgets[0].options.values.some((label) => label.endsWith(`[${id}]`)))"""
# Where the first node's widget is, in pixels of the page.
WIDGET_AT = """() => {
  const { graph, canvas } = window.app;
  const node = graph.getNodeById(1);
  canvas.ds.scale = 1;
  canvas.ds.offset = [200 - node.pos[0], 200 - node.pos[1]];
  canvas.draw(true, true);
  const { left, top } = canvas.canvas.getBoundingClientRect();
  return [left + 200 + node.size[0] / 2, top + 200 + node.widgets[0].last_y + 10];
}"""
QUEUE_ALONE = """async () => {
  const { app } = window, { api } = app;
  const [kept, ...others] = [1, 2, 3, 4].map((id) => app.graph.getNodeById(id));
  others.forEach((node) => app.graph.remove(node));
  const shown = window.LiteGraph.createNode("PreviewAny");
  app.graph.add(shown);
  kept.connect(0, shown, 0);
  window.longliveEnd = null;
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"]) {
    api.addEventListener(kind, () => { window.longliveEnd = kind; }, { once: true });
  }
  await app.queuePrompt(0);
}"""


def load_takes(*names: str) -> dict:
    """A workflow of Load Takes, saved with these names."""
    nodes = [
        {
            "id": number,
            "type": "LongLiveLoadTake",
            "pos": [100, 200 * number],
            "size": [480, 90],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "properties": {},
            "widgets_values": [name],
            "outputs": [{"name": "TAKE", "type": "LONGLIVE_TAKE", "links": None}],
        }
        for number, name in enumerate(names, 1)
    ]
    return {
        "last_node_id": len(names),
        "last_link_id": 0,
        "nodes": nodes,
        "links": [],
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def test_load_take_lists_what_is_stored(page, server, object_info):
    """Forbids a list without the newest take or before it is read again, a saved choice that becomes another take, and
    a take that can be chosen and is not the one that is loaded."""
    store = TakeStore(server.base / "output" / "longlive")
    shutil.rmtree(store.folder)
    store = TakeStore(store.folder)
    old, half = manifest(1, "0s A red ball", 4, used=1.70e9), manifest(2, "0s A blue star", 4, used=1.71e9)
    place(store, old)
    place(store, half, 3)
    assert object_info["LongLiveLoadTake"]["input"]["required"]["name"][1]["options"] == ["newest"]
    page.reload()
    page.wait_for_function(READY)
    names = [f"2020-01-01 00:00 · 1 s · A blue star [{half.id}]", f"{old.id} A red ball", "newest", "0123456789ab"]
    page.evaluate("(workflow) => window.app.loadGraphData(workflow)", load_takes(*names))
    nodes = page.evaluate(LISTED)
    assert [node["listed"] for node in nodes] == [["newest", half.id, old.id]] * 4
    labels = take_choices(store)
    assert [node["value"] for node in nodes] == [labels[0], labels[1], *names[2:]]

    late = manifest(3, "0s A green cube", 4, used=1.72e9)
    place(store, late)
    place(store, half)
    page.locator("#graph-canvas").click(position={"x": 600, "y": 600})
    page.keyboard.press("r")
    page.wait_for_function(HAVE, arg=late.id)
    labels = take_choices(store)
    assert [node["value"] for node in page.evaluate(LISTED)] == [labels[1], labels[2], *names[2:]]
    made = page.evaluate("() => window.LiteGraph.createNode('LongLiveLoadTake').widgets[0].options.values")
    assert made == ["newest", *labels]

    page.mouse.click(*page.evaluate(WIDGET_AT))
    page.locator(".litecontextmenu").get_by_text(late.id).click()
    assert page.evaluate(LISTED)[0]["value"] == labels[0]
    page.evaluate(QUEUE_ALONE)
    page.wait_for_function("() => window.longliveEnd")
    assert page.evaluate("() => window.longliveEnd") == "execution_success"
    page.wait_for_function("(id) => document.querySelector('.longlive-report')?.textContent.includes(id)", arg=late.id)
