"""Pictures for the README: docs/images/story.webp and docs/images/graph.webp. Run it by scripts/front_pictures.

The six prompts of the demo, four seconds each, rendered by the pocket model in a separate ComfyUI server.
`graph.webp` is ComfyUI's own interface in a headless Chromium while the film grows; `story.webp` is the finished film
with the current prompt below it. Needs Chromium (or CHROMIUM=path) and `pip install playwright` in .venv, which
nothing else requires.

front_pictures [--png FOLDER]   also stills of both as PNG, to inspect
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.harness import graphs, mp4  # noqa: E402 - the path comes first
from scripts.harness.client import ComfyClient  # noqa: E402
from scripts.harness.server import ComfyServer  # noqa: E402
from scripts.help_pictures import READY, SETTINGS, browser_tools  # noqa: E402

PICTURES = ROOT / "docs" / "images"
MOST_BYTES = 3_000_000  # of both pictures
WORKFLOW = "six_segment_story"
SECONDS = 4.0  # of each prompt
# The graph: two columns and a third; node type -> (position, size).
PLACES = {
    "LongLiveLoad": ((0, 0), (440, 210)),
    "LongLivePromptTimeline": ((0, 270), (440, 330)),
    "LongLiveStreamSampler": ((500, 0), (440, 420)),
    "SaveVideo": ((1000, 100), (300, 160)),
}
WINDOW, ORIGIN = {"width": 1420, "height": 1060}, (70, 125)  # pixels; the position of the graph's corner
SHARPNESS = 1.5  # pixels of the picture for each of the page's
SHOWN_CHUNKS = 18  # of 33: the screenshot of the graph is taken after these
# The film: the size of each of its pixels, and below it the prompt and a bar of all prompts.
SCALE, FOOT, BAR = 4, 68, 6
GROUND, INK, QUIET, ACCENT = (22, 24, 29), (236, 238, 242), (70, 76, 88), (255, 170, 64)

NO_BANNER = "localStorage.setItem('vueNodesBannerDismissed', 'true')"
QUEUE = """async (workflow) => {
  const { app } = window;
  await app.loadGraphData(workflow);
  window.longliveEnd = null;
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"]) {
    app.api.addEventListener(kind, (event) => { window.longliveEnd = [kind, event.detail.prompt_id]; }, { once: true });
  }
  await app.queuePrompt(0);
}"""
# The interface fits the view some time after it loaded a workflow; a node outside of the view shows no film.
SHOW = """(origin) => {
  const { canvas } = window.app;
  canvas.deselectAllNodes?.();
  canvas.ds.scale = 1;
  canvas.ds.offset = origin;
  canvas.setDirty(true, true);
}"""
BEGUN = "() => document.querySelector('.longlive-line')?.textContent.includes(' chunks')"
# Both: that many chunks are rendered, and the player has a film to show.
GROWN = """(least) => {
  const line = document.querySelector('.longlive-line')?.textContent ?? "";
  const film = document.querySelector('.longlive-live video');
  const chunks = Number(/(\\d+) (?:of|\\/) \\d+ chunks/.exec(line)?.[1] ?? 0);
  return chunks >= least && film?.videoWidth > 0 && film.currentTime > 0;
}"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/front_pictures", description="Render the README's pictures.")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="also stills as PNG")
    options = parser.parse_args()
    graph, frames, report = _film_and_graph()
    story = compose(frames, [(part["start_seconds"], part["text"]) for part in report["segments"]])
    PICTURES.mkdir(exist_ok=True)
    sizes = {
        "graph.webp": _write("graph.webp", graph, quality=82, method=6),
        "story.webp": _write(
            "story.webp",
            story[0],
            save_all=True,
            append_images=story[1:],
            duration=round(1000 / report["fps"]),  # milliseconds
            loop=0,
            quality=60,
            method=3,  # 6 took four minutes
        ),
    }
    print(", ".join(f"{name}: {size} bytes" for name, size in sizes.items()))
    if options.png:
        options.png.mkdir(parents=True, exist_ok=True)
        graph.save(options.png / "graph.png")
        for number in range(32, len(story), 64):
            story[number].save(options.png / f"story_{number:03d}.png")
    if sum(sizes.values()) > MOST_BYTES:
        sys.exit(f"together more than {MOST_BYTES} bytes")
    return 0


def _write(name: str, picture: Image.Image, **options) -> int:
    """Write a picture completely or not at all; return its bytes."""
    content = io.BytesIO()
    picture.save(content, "WEBP", **options)
    (PICTURES / name).write_bytes(content.getvalue())
    return len(content.getvalue())


def workflow() -> dict:
    """Return the demo's workflow for the browser, with shorter prompts and the nodes close together."""
    made = graphs.ui(WORKFLOW)
    made["nodes"] = [node for node in made["nodes"] if node["type"] in PLACES]
    for node in made["nodes"]:
        node["pos"], node["size"] = map(list, PLACES[node["type"]])
        if node["type"] == "LongLivePromptTimeline":
            lines = [re.sub(r"^\S+\s+", "", line) for line in node["widgets_values"][0].splitlines()]
            times = [f"{number * SECONDS:g}s {line}" for number, line in enumerate(lines)]
            node["widgets_values"][:2] = ["\n".join(times), SECONDS * len(lines)]
    return made


def _film_and_graph() -> tuple[Image.Image, np.ndarray, dict]:
    """Return the screenshot of the graph, the frames [T, H, W, 3] of its film, the sampler's report."""
    sync_playwright, chromium = browser_tools()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(SETTINGS), encoding="utf-8")
        with ComfyServer(Path(folder)) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport=WINDOW, device_scale_factor=SHARPNESS)
            page.set_default_timeout(600_000)  # milliseconds
            page.add_init_script(NO_BANNER)
            page.goto(server.url)
            page.wait_for_function(READY)
            page.evaluate(QUEUE, workflow())
            page.wait_for_function(BEGUN)
            page.evaluate(SHOW, ORIGIN)
            page.wait_for_function(GROWN, arg=SHOWN_CHUNKS)
            page.evaluate(SHOW, ORIGIN)
            page.wait_for_timeout(700)  # until it is drawn
            graph = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            page.wait_for_function("() => window.longliveEnd")
            status, prompt = page.evaluate("() => window.longliveEnd")
            browser.close()
            if status != "execution_success":
                sys.exit(f"{status}; the server's log:\n{server.tail()}")
            with ComfyClient(server.url) as client:
                outputs = client.get(f"/history/{prompt}")[prompt]["outputs"]
                report = next(
                    json.loads(out["text"][0]) for out in outputs.values() if "text" in out and _is_report(out)
                )
                file = next(out["images"][0] for out in outputs.values() if "images" in out)
                return graph, mp4.read(client.view(file)).frames, report


def _is_report(output: dict) -> bool:
    return output["text"][0].startswith("{")


def compose(frames: np.ndarray, segments: list[tuple[float, str]], fps: float = 16.0) -> list[Image.Image]:
    """Enlarge frames, each above the current prompt and a bar that shows its time in the film."""
    starts = [start for start, _ in segments]
    length = len(frames) / fps
    pictures = []
    for number in range(len(frames)):
        seconds = number / fps
        current = max(index for index, start in enumerate(starts) if start <= seconds + 1e-6)
        pictures.append(_picture(frames[number], seconds, length, current, segments))
    return pictures


def _picture(frame: np.ndarray, seconds: float, length: float, current: int, segments) -> Image.Image:
    height, width = frame.shape[0] * SCALE, frame.shape[1] * SCALE
    picture = Image.new("RGB", (width, height + FOOT), GROUND)
    picture.paste(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS), (0, 0))
    draw = ImageDraw.Draw(picture)
    ends = [start for start, _ in segments[1:]] + [length]
    for index, ((start, _), end) in enumerate(zip(segments, ends, strict=True)):
        left, right = start / length * width, end / length * width - 3
        draw.rectangle((left, height + 8, right, height + 8 + BAR), QUIET)
        if index <= current:
            draw.rectangle((left, height + 8, min(right, seconds / length * width), height + 8 + BAR), ACCENT)
    start, text = segments[current]
    draw.text((14, height + 41), f"{start:.0f}s", ACCENT, ImageFont.load_default(size=20), anchor="lm")
    draw.text((62, height + 41), text, INK, ImageFont.load_default(size=20), anchor="lm")
    return picture


if __name__ == "__main__":
    sys.exit(main())
