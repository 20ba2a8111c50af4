"""Take the pictures of the nodes' help pages: web/docs/NODE.webp. Run it with scripts/help_pictures.

Starts a ComfyUI server and its interface in a headless Chromium, renders a short film with the pocket model, so that
the nodes show their reports and the sampler its panel, and takes one picture per node. Needs Chromium (or
CHROMIUM=path) and `pip install playwright` in .venv; nothing else needs these two.

help_pictures [--templates FILE]   also take a picture of the template browser
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.harness import graphs  # noqa: E402
from scripts.harness.client import ComfyClient  # noqa: E402
from scripts.harness.server import ComfyServer  # noqa: E402
from scripts.workflow_graph import Graph  # noqa: E402 - the path comes first

PAGES = ROOT / "web" / "docs"
WORKFLOW = "int8"
WINDOW = {"width": 1700, "height": 1200}
MARGIN, TITLE = 5, 30  # pixels around a node; height of its title bar, which is above its origin
SECONDS = 3.0
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}

# The interface first opens its own workflow, which would replace a workflow that was loaded earlier.
READY = """() => window.app?.graph?._nodes?.length && window.app.extensionManager?.workflow?.activeWorkflow
  && window.LiteGraph?.registered_node_types?.SaveVideo"""
# These run in the page. chunks: `longlive.chunk` events, which make a sampler show its panel.
LOAD_WORKFLOW = """async ([workflow, reports, chunks]) => {
  await window.app.loadGraphData(workflow);
  for (const detail of chunks) window.app.api.dispatchEvent(new CustomEvent("longlive.chunk", { detail }));
  for (const [id, output] of Object.entries(reports)) window.app.graph.getNodeById(Number(id)).onExecuted?.(output);
}"""
FILMS_ARE_READ = "() => [...document.querySelectorAll('video')].every((film) => film.ended)"
SHOW_NODE = """async (id) => {
  const { graph, canvas } = window.app;
  const node = graph.getNodeById(id);
  canvas.ds.scale = 1;
  canvas.ds.offset = [420 - node.pos[0], 180 - node.pos[1]];
  canvas.deselectAllNodes?.();
  canvas.setDirty(true, true);
  await new Promise((done) => setTimeout(done, 500));
  const at = canvas.canvas.getBoundingClientRect();
  return { x: at.x + 420, y: at.y + 180, width: node.size[0], height: node.size[1] };
}"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/help_pictures", description="Take the help pages' pictures.")
    parser.add_argument("--templates", type=Path, metavar="FILE", help="also take a picture of the template browser")
    options = parser.parse_args()
    sync_playwright, chromium = browser_tools()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
        with ComfyServer(Path(folder)) as server, sync_playwright() as playwright:
            shown = [_shown(server, *_film()), _shown(server, *_takes())]
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=WINDOW)
            page.set_default_timeout(180_000)  # milliseconds
            page.goto(server.url)
            page.wait_for_function(READY)
            for arguments in shown:
                _photograph_nodes(page, *arguments)
            if options.templates:
                _photograph_templates(page, options.templates)
            browser.close()
    return 0


def browser_tools():
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("there is no Chromium; install one (apt install chromium), or set CHROMIUM to its path")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sys.exit(f"playwright is missing: {sys.executable} -m pip install playwright")
    return sync_playwright, chromium


def _film() -> tuple[dict, dict]:
    """Return a workflow in UI and API format, with the short film's text of two segments."""
    workflow, graph = graphs.ui(WORKFLOW), graphs.api(WORKFLOW)
    timeline = next(node for node in workflow["nodes"] if node["type"] == "LongLivePromptTimeline")
    timeline["widgets_values"][:2] = [graphs.TEXT, SECONDS]
    timeline["size"] = [640, 300]
    graph[str(timeline["id"])]["inputs"].update(text=graphs.TEXT, duration=SECONDS)
    return workflow, graph


def _takes() -> tuple[dict, dict]:
    """Return a workflow with the take nodes in a row."""
    graph = Graph("takes")
    load = graph.add("LongLiveLoadTake", (40, 80), name="newest")
    branch = graph.add("LongLiveBranchTake", (640, 80), take=load["TAKE"], at="1.5s")
    frames = graph.add("LongLiveTakeFrames", (1240, 80), take=branch["TAKE"], first=-16, frames=16)
    graph.add("SaveImage", (1640, 80), images=frames["LAST FRAME"], filename_prefix="last")
    return graph.ui(), graph.api()


def _shown(server: ComfyServer, workflow: dict, graph: dict) -> tuple[dict, dict, list[dict]]:
    """Return a workflow with its nodes' outputs after a run, by node id, and the sampler's last `longlive.chunk`."""
    with ComfyClient(server.url) as client:
        run = client.run(graph)
    if run.status != "execution_success":
        sys.exit(f"{run.error or run.status}; the server's log:\n{server.tail()}")
    reports = {node: out for node, out in run.outputs.items() if graph[node]["class_type"].startswith("LongLive")}
    chunks = run.of("longlive.chunk")[-1:]
    for chunk in chunks:
        chunk["file"]["filename"] = "film.mp4"  # the growing film does not exist any more
    return workflow, reports, chunks


def _photograph_nodes(page, workflow: dict, reports: dict[str, dict], chunks: list[dict]) -> None:
    page.evaluate(LOAD_WORKFLOW, [workflow, reports, chunks])
    page.wait_for_function(FILMS_ARE_READ)
    for node in workflow["nodes"]:
        if not node["type"].startswith("LongLive"):
            continue
        at = page.evaluate(SHOW_NODE, node["id"])
        clip = {
            "x": at["x"] - MARGIN,
            "y": at["y"] - TITLE - MARGIN,
            "width": at["width"] + 2 * MARGIN,
            "height": at["height"] + TITLE + 2 * MARGIN,
        }
        path = PAGES / f"{node['type']}.webp"
        Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB").save(path, "WEBP", quality=80, method=6)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes", flush=True)


def _photograph_templates(page, path: Path) -> None:
    """Take a picture of ComfyUI's template browser with this pack's templates."""
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("ComfyUI-LongLive").first.click()
    page.wait_for_timeout(3000)
    page.screenshot(path=path)


if __name__ == "__main__":
    sys.exit(main())
