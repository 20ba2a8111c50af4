"""Pictures for ComfyUI's template browser: workflows/NAME.jpg beside NAME.json. Run it by scripts/thumbnails.

Every workflow of the pocket model is run through a ComfyUI server of its own, and stills of its films are laid out in
one small JPEG. The workflows for LongLive's own files get the same stills and say so: their files are not here.

thumbnails [NAME ...]
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.workflows import FOLDER, LONGLIVE  # noqa: E402 - the path comes first
from tests.comfy import films, graphs  # noqa: E402
from tests.comfy.client import ComfyClient  # noqa: E402
from tests.comfy.models import place_models  # noqa: E402
from tests.comfy.server import ComfyServer  # noqa: E402

SIZE = (400, 400)  # cards are square
STRIP = 26  # pixels at the bottom, for the words
GAP = 4
BACKGROUND, INK = (24, 24, 28), (225, 225, 230)
WORDS = {"": "pocket model (built in)", LONGLIVE.suffix: "for LongLive 1.3B  -  pictures: pocket model"}
MAX_BYTES = 40_000
LIVE_CHUNKS = 7  # after which a film without end is finished
STILLS = {1: 6, 2: 3, 3: 2}  # of each film, by the number of films; of more films one each


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/thumbnails", description="Render the template browser's pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(graphs.POCKET_NAMES)}; all by default")
    names = parser.parse_args().names or graphs.POCKET_NAMES
    unknown = sorted(set(names) - set(graphs.POCKET_NAMES))
    if unknown:
        parser.error(f"no workflow of the pocket model is called {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as folder:
        place_models(Path(folder) / "models")
        with ComfyServer(Path(folder)) as server, ComfyClient(server.url) as client:
            for name in names:
                _make(client, name)
    return 0


def _make(client: ComfyClient, name: str) -> None:
    made = render(client, name)
    cells = [cell for film in made for cell in stills(film, len(made))]
    for suffix, words in WORDS.items():
        path = FOLDER / f"{name}{suffix}.jpg"
        path.write_bytes(jpeg(layout(cells, words)))
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes", flush=True)


def render(client: ComfyClient, name: str) -> list[np.ndarray]:
    """The films of a workflow, in its order: uint8 [T, H, W, 3] each."""
    graph = graphs.api(name)
    finish = client.finishing_after(LIVE_CHUNKS) if name in graphs.ENDLESS else None
    run = client.run(graph, on_event=finish)
    if run.status != "execution_success":
        sys.exit(f"{name}: {run.error or run.status}")
    savers = [saver for _, _, saver in graphs.films_of(graph)]
    return [films.read(client.view(run.outputs[saver]["images"][0])).frames for saver in savers]


def stills(frames: np.ndarray, siblings: int) -> list[np.ndarray]:
    """Frames spread evenly over a film; the more films a workflow makes, the fewer of each."""
    count = STILLS.get(siblings, 1)
    return [frames[int((i + 0.5) / count * len(frames))] for i in range(count)]


def layout(cells: list[np.ndarray], words: str) -> Image.Image:
    """Cells in the grid that shows them largest, row by row, over a strip with the words."""
    picture = Image.new("RGB", SIZE, BACKGROUND)
    height, width = cells[0].shape[:2]
    area = (SIZE[0], SIZE[1] - STRIP)
    columns, scale = max(
        ((n, _scale(n, len(cells), (width, height), area)) for n in range(1, len(cells) + 1)), key=lambda pair: pair[1]
    )
    rows = -(-len(cells) // columns)
    cell = (int(width * scale), int(height * scale))
    left = (area[0] - columns * cell[0] - (columns - 1) * GAP) // 2
    top = (area[1] - rows * cell[1] - (rows - 1) * GAP) // 2
    for index, pixels in enumerate(cells):
        row, column = divmod(index, columns)
        still = Image.fromarray(pixels).resize(cell, Image.Resampling.BICUBIC)
        picture.paste(still, (left + column * (cell[0] + GAP), top + row * (cell[1] + GAP)))
    font = ImageFont.load_default(size=14)
    ImageDraw.Draw(picture).text((SIZE[0] // 2, SIZE[1] - STRIP // 2), words, INK, font, anchor="mm")
    return picture


def _scale(columns: int, count: int, cell: tuple[int, int], area: tuple[int, int]) -> float:
    rows = -(-count // columns)
    return min((area[0] - (columns + 1) * GAP) / columns / cell[0], (area[1] - (rows + 1) * GAP) / rows / cell[1])


def jpeg(picture: Image.Image) -> bytes:
    """The best JPEG that stays below MAX_BYTES."""
    for quality in range(90, 20, -5):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() < MAX_BYTES:
            break
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
