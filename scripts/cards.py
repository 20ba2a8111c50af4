"""Cards for ComfyUI's template browser, and drawings of a workflow's nodes and links. Needs only Pillow."""

from __future__ import annotations

import io
import textwrap

from PIL import Image, ImageDraw, ImageFont

from .templates import Template

SIZE = (400, 400)  # cards are square
MARGIN, GAP, TITLE, LINE, STRIP = 12, 4, 36, 22, 28  # pixels; the strip is at the bottom
BACKGROUND, INK, DIM, BAR = (24, 24, 28), (225, 225, 230), (160, 160, 170), (38, 38, 46)
NODE, OURS, EDGE, LINK = (58, 58, 66), (44, 74, 96), (90, 90, 100), (150, 150, 120)
STRETCH = 2.2  # maximum ratio of the axes' scales, so that long columns of nodes have space for text
COLUMNS = 44  # characters per line of the sentence
MAX_BYTES = 40_000
HIDDEN = "MarkdownNote"


Box = tuple[int, int, int, int]


def frame(template: Template, words: str, accent: tuple[int, int, int]) -> tuple[Image.Image, Box]:
    """Return an empty card with title, sentence and strip, and the box (left, top, right, bottom) for its picture."""
    card = Image.new("RGB", SIZE, BACKGROUND)
    draw = ImageDraw.Draw(card)
    draw.text((MARGIN, 10), template.title, INK, ImageFont.load_default(size=26))
    lines = textwrap.wrap(template.sentence, COLUMNS)
    for row, line in enumerate(lines):
        draw.text((MARGIN, 10 + TITLE + row * LINE), line, DIM, ImageFont.load_default(size=18))
    draw.rectangle((0, SIZE[1] - STRIP, *SIZE), BAR)
    draw.rectangle((0, SIZE[1] - STRIP, 5, SIZE[1]), accent)
    draw.text((SIZE[0] // 2, SIZE[1] - STRIP // 2), words, INK, ImageFont.load_default(size=14), anchor="mm")
    return card, (GAP, 10 + TITLE + len(lines) * LINE + 8, SIZE[0] - GAP, SIZE[1] - STRIP - GAP)


def draw_graph(card: Image.Image, box: Box, workflow: dict) -> None:
    """Draw a workflow's nodes and links as large as the box allows. workflow: in the browser's format."""
    nodes = {node["id"]: node for node in workflow["nodes"] if node["type"] != HIDDEN}
    left, top = (min(node["pos"][axis] for node in nodes.values()) for axis in (0, 1))
    right, bottom = (max(node["pos"][axis] + node["size"][axis] for node in nodes.values()) for axis in (0, 1))
    inner = (box[2] - box[0] - 2 * MARGIN, box[3] - box[1] - 2 * MARGIN)
    wide, high = inner[0] / (right - left), inner[1] / (bottom - top)
    wide, high = min(wide, STRETCH * high), min(high, STRETCH * wide)
    shift = ((box[0] + box[2] - wide * (right + left)) / 2, (box[1] + box[3] - high * (bottom + top)) / 2)

    def place(x: float, y: float) -> tuple[float, float]:
        return x * wide + shift[0], y * high + shift[1]

    draw = ImageDraw.Draw(card)
    for _, source, _, target, slot, _ in workflow["links"]:
        start, end = nodes[source], nodes[target]
        a = place(start["pos"][0] + start["size"][0], start["pos"][1] + 20)
        b = place(end["pos"][0], end["pos"][1] + 20 + 20 * slot)
        draw.line((*a, (a[0] + b[0]) / 2, a[1], (a[0] + b[0]) / 2, b[1], *b), LINK, 1)
    for node in nodes.values():
        corner, far = place(*node["pos"]), place(*(p + s for p, s in zip(node["pos"], node["size"], strict=True)))
        fill = OURS if node["type"].startswith("LongLive") else NODE
        draw.rounded_rectangle((*corner, *far), 4, fill, EDGE)
        _write(draw, (*corner, *far), _title(node["type"]))


def _title(kind: str) -> str:
    from .workflow_graph import KINDS

    return KINDS[kind].title


def _write(draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], text: str) -> None:
    """Write the text in the largest font that fits, in one line or one word per line; nothing if none fits."""
    width, height, lines = box[2] - box[0] - 6, box[3] - box[1] - 4, "\n".join(text.split())
    for size in (13, 12, 11, 10, 9, 8):
        font = ImageFont.load_default(size=size)
        for layout in (text, lines):
            around = draw.multiline_textbbox((0, 0), layout, font)
            if around[2] - around[0] <= width and around[3] - around[1] <= height:
                middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                draw.multiline_text(middle, layout, INK, font, anchor="mm", align="center")
                return


def jpeg(picture: Image.Image) -> bytes:
    """Return the picture as the best JPEG smaller than MAX_BYTES."""
    for quality in range(90, 20, -5):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() < MAX_BYTES:
            break
    return buffer.getvalue()
