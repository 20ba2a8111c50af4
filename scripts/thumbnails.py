"""Render pictures for ComfyUI's template browser: workflows/NAME.jpg beside NAME.json. Run it with scripts/thumbnails.

Every workflow of the pocket model runs in a ComfyUI server, and stills of its films are arranged on a small card. The
workflows for LongLive's own files cannot be run here: their cards show the nodes.

thumbnails [NAME ...]    these pocket workflows, such as one_prompt; all by default
thumbnails --drawn       only the cards that need no server: those of LongLive's own files
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.cards import GAP, draw_graph, frame, jpeg  # noqa: E402 - the path comes first
from scripts.templates import picture_path, template_of, ui_path  # noqa: E402

WORDS = "pocket model (built in)"
DRAWN_WORDS = "LongLive 1.3B: its files are not shipped, so no film here"
ACCENT, DRAWN_ACCENT = (90, 170, 90), (200, 130, 60)
LIVE_CHUNKS = 7  # after these, a film without end is finished
STILLS = {1: 6, 2: 3, 3: 2}  # stills per film, by number of films; one each if there are more films


def main() -> int:
    from scripts.harness import graphs

    parser = argparse.ArgumentParser(prog="scripts/thumbnails", description="Render the template browser's pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(graphs.POCKET_NAMES)}; all by default")
    parser.add_argument("--drawn", action="store_true", help="only the cards without films")
    options = parser.parse_args()
    names = options.names or graphs.POCKET_NAMES
    unknown = sorted(set(names) - set(graphs.POCKET_NAMES))
    if unknown:
        parser.error(f"no workflow of the pocket model is named {', '.join(unknown)}")
    for name in graphs.REAL_NAMES:
        _keep(name, drawn(name))
    if not options.drawn:
        _render_all(names)
    return 0


def _render_all(names: list[str]) -> None:
    from scripts.harness.client import ComfyClient
    from scripts.harness.models import place_models
    from scripts.harness.server import ComfyServer

    with tempfile.TemporaryDirectory() as folder:
        place_models(Path(folder) / "models")
        with ComfyServer(Path(folder)) as server, ComfyClient(server.url) as client:
            for name in names:
                made = render(client, name)
                _keep(name, filmed(name, [cell for film in made for cell in stills(film, len(made))]))


def _keep(name: str, card: Image.Image) -> None:
    path = picture_path(name)
    path.write_bytes(jpeg(card))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes", flush=True)


def drawn(name: str) -> Image.Image:
    """Return the card of a workflow that cannot be run here."""
    card, box = frame(template_of(name), DRAWN_WORDS, DRAWN_ACCENT)
    draw_graph(card, box, json.loads(ui_path(name).read_text(encoding="utf-8")))
    return card


def filmed(name: str, cells: list[np.ndarray]) -> Image.Image:
    """Return the card of a workflow with stills of its films."""
    card, box = frame(template_of(name), WORDS, ACCENT)
    layout(card, box, cells)
    return card


def render(client, name: str) -> list[np.ndarray]:
    """Render a workflow and return its films in order: uint8 [T, H, W, 3] each. client: a `ComfyClient`."""
    from scripts.harness import graphs, mp4

    graph = graphs.api(name)
    finish = client.finishing_after(LIVE_CHUNKS) if name in graphs.ENDLESS else None
    run = client.run(graph, on_event=finish)
    if run.status != "execution_success":
        sys.exit(f"{name}: {run.error or run.status}")
    savers = [saver for _, _, saver in graphs.films_of(graph)]
    return [mp4.read(client.view(run.outputs[saver]["images"][0])).frames for saver in savers]


def stills(frames: np.ndarray, siblings: int) -> list[np.ndarray]:
    """Return frames evenly spread over a film; the more films a workflow has, the fewer stills of each."""
    count = STILLS.get(siblings, 1)
    return [frames[int((i + 0.5) / count * len(frames))] for i in range(count)]


def layout(card: Image.Image, box: tuple[int, int, int, int], cells: list[np.ndarray]) -> None:
    """Paste cells row by row into a box (left, top, right, bottom) of the card, in the grid that shows them largest."""
    height, width = cells[0].shape[:2]
    area = (box[2] - box[0], box[3] - box[1])
    columns, scale = max(
        ((n, _scale(n, len(cells), (width, height), area)) for n in range(1, len(cells) + 1)), key=lambda pair: pair[1]
    )
    rows = -(-len(cells) // columns)
    cell = (int(width * scale), int(height * scale))
    left = box[0] + (area[0] - columns * cell[0] - (columns - 1) * GAP) // 2
    top = box[1] + (area[1] - rows * cell[1] - (rows - 1) * GAP) // 2
    for index, pixels in enumerate(cells):
        row, column = divmod(index, columns)
        still = Image.fromarray(pixels).resize(cell, Image.Resampling.BICUBIC)
        card.paste(still, (left + column * (cell[0] + GAP), top + row * (cell[1] + GAP)))


def _scale(columns: int, count: int, cell: tuple[int, int], area: tuple[int, int]) -> float:
    rows = -(-count // columns)
    return min((area[0] - (columns + 1) * GAP) / columns / cell[0], (area[1] - (rows + 1) * GAP) / rows / cell[1])


if __name__ == "__main__":
    sys.exit(main())
