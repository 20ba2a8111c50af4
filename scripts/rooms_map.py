"""Draw a layered graph as SVG: rows of boxes, and arrows from each box to those that it needs, all of them downwards.

An arrow that passes a row gets a place there, as a box does, so that it never crosses a box. Rows are ordered so that
arrows cross seldom (K. Sugiyama et al., 1981). Equal graphs give equal pictures, byte for byte.
"""

from __future__ import annotations

import textwrap
from html import escape

WIDTH, HEIGHT, GAP, ROW, EDGE = 152, 62, 16, 108, 14  # pixels: a box, space between boxes, from row to row, margin
PASSING = 12  # width of an arrow's place in a row that it passes
SWEEPS = 24  # an even number; more changed nothing
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"
# Boxes have their own ground, and lines a grey in the middle: readable on white and on black.
FILL, LINE, TEXT, QUIET, HOST_FILL = "#e8f0fe", "#7d8590", "#1b2a41", "#4a5870", "#fde9d0"

Point = tuple[str, int]  # a box has the place (name, 0), an arrow's place in row 3 ("from>to", 3)


def draw(rows: list[tuple[str, ...]], graph: dict[str, set[str]], words: dict[str, str], host: str) -> str:
    """Return the picture.
    Args:
        rows: names of boxes, from the top.
        graph: name -> names in lower rows that arrows go to.
        words: name -> a few words, for the second and third line in the box.
        host: the name whose box gets another colour.
    """
    levels, links = _with_places(rows, graph)
    levels = _ordered(levels, links)
    places = _placed(levels, links)
    width = max(places[point] + _width(point) / 2 for level in levels for point in level) + EDGE
    height = 2 * EDGE + (len(levels) - 1) * ROW + HEIGHT
    arrows = [_arrow(levels, places, name, other) for name in sorted(graph) for other in sorted(graph[name])]
    boxes = [
        _box(places[name, 0], row, name, words[name], HOST_FILL if name == host else FILL)
        for row, names in enumerate(rows)
        for name in names
    ]
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height}' width='{width:.0f}' "
        f"height='{height}' {FONT}>"
    )
    marker = (
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0 8 4 0 8z' fill='{LINE}'/></marker></defs>"
    )
    return "\n".join([head, marker, *arrows, *boxes, "</svg>", ""])


def _with_places(rows, graph) -> tuple[list[list[Point]], list[tuple[int, Point, Point]]]:
    """Return rows with the places of passing arrows, and links (upper row, point, point below)."""
    row_of = {name: row for row, names in enumerate(rows) for name in names}
    levels: list[list[Point]] = [[(name, 0) for name in names] for names in rows]
    links = []
    for name in sorted(graph):
        for other in sorted(graph[name]):
            path = [(f"{name}>{other}", row) for row in range(row_of[name] + 1, row_of[other])]
            for point in path:
                levels[point[1]].append(point)
            whole = [(name, 0), *path, (other, 0)]
            links += [(row_of[name] + step, *pair) for step, pair in enumerate(zip(whole, whole[1:], strict=False))]
    return levels, links


def _neighbours(links, point: Point, above: bool) -> list[Point]:
    return [upper if above else lower for _, upper, lower in links if point == (lower if above else upper)]


def _ordered(levels, links) -> list[list[Point]]:
    """Order each row by the mean place of its neighbours, down and up again; return the best order found."""
    best, least = levels, _crossings(levels, links)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        levels = [list(level) for level in levels]
        for row in range(1, len(levels)) if down else range(len(levels) - 2, -1, -1):
            order = {point: place for place, point in enumerate(levels[row - 1 if down else row + 1])}
            size = max(1, len(order) - 1)
            own = {point: place / max(1, len(levels[row]) - 1) for place, point in enumerate(levels[row])}
            levels[row].sort(key=lambda point: _mean(order, size, own, links, point, down))  # noqa: B023 - used at once
        count = _crossings(levels, links)
        if count < least:
            best, least = levels, count
    return best


def _mean(order, size, own, links, point, above) -> float:
    near = _neighbours(links, point, above)
    return sum(order[other] / size for other in near) / len(near) if near else own[point]


def _crossings(levels, links) -> int:
    place = {point: number for level in levels for number, point in enumerate(level)}
    total = 0
    for row in range(len(levels) - 1):
        here = [(place[upper], place[lower]) for at, upper, lower in links if at == row]
        total += sum((a - c) * (b - d) < 0 for number, (a, b) in enumerate(here) for c, d in here[number + 1 :])
    return total


def _width(point: Point) -> int:
    return PASSING if ">" in point[0] else WIDTH


def _placed(levels, links) -> dict[Point, float]:
    """Return x of every point's middle: near its neighbours, in the row's order, without overlap."""
    places: dict[Point, float] = {}
    for level in levels:
        x = 0.0
        for point in level:
            places[point] = x + _width(point) / 2
            x += _width(point) + GAP
    for _ in range(60):
        for level in levels:
            wanted = []
            for point in level:
                near = [places[other] for above in (True, False) for other in _neighbours(links, point, above)]
                wanted.append(sum(near) / len(near) if near else places[point])
            places.update(zip(level, _apart(level, wanted), strict=True))
    left = min(places[point] - _width(point) / 2 for level in levels for point in level)
    return {point: x - left + EDGE for point, x in places.items()}


def _apart(level, wanted: list[float]) -> list[float]:
    """Return places in order with space between them, near the wanted ones: the mean of two passes."""

    def need(a: int, b: int) -> float:
        return (_width(level[a]) + _width(level[b])) / 2 + GAP

    right, left = list(wanted), list(wanted)
    for i in range(1, len(level)):
        right[i] = max(right[i], right[i - 1] + need(i - 1, i))
    for i in range(len(level) - 2, -1, -1):
        left[i] = min(left[i], left[i + 1] - need(i, i + 1))
    return [(a + b) / 2 for a, b in zip(left, right, strict=True)]


def _arrow(levels, places, name: str, other: str) -> str:
    rows = {point: row for row, level in enumerate(levels) for point in level}
    top, bottom = rows[name, 0], rows[other, 0]
    passed = [(f"{name}>{other}", row) for row in range(top + 1, bottom)]
    x, y = places[name, 0], EDGE + top * ROW + HEIGHT
    path = f"M{x:.0f} {y}"
    for point in [*passed, (other, 0)]:
        row = rows[point]
        goal = EDGE + row * ROW
        middle = (y + goal) / 2
        path += f" C{x:.0f} {middle:.0f} {places[point]:.0f} {middle:.0f} {places[point]:.0f} {goal}"
        x, y = places[point], goal
        if point in passed:
            y += HEIGHT
            path += f" V{y}"
    return f"<path d='{path}' fill='none' stroke='{LINE}' stroke-width='1.4' marker-end='url(#tip)'/>"


def _box(x: float, row: int, name: str, words: str, fill: str) -> str:
    y = EDGE + row * ROW
    lines = textwrap.wrap(words, 25, max_lines=2, placeholder=" ...")
    text = f"<text x='{x:.0f}' y='{y + 20}' font-size='14' font-weight='600' fill='{TEXT}'>{escape(name)}</text>"
    for number, line in enumerate(lines):
        text += f"<text x='{x:.0f}' y='{y + 37 + 14 * number}' font-size='10.5' fill='{QUIET}'>{escape(line)}</text>"
    rect = (
        f"<rect x='{x - WIDTH / 2:.0f}' y='{y}' width='{WIDTH}' height='{HEIGHT}' rx='7' fill='{fill}' "
        f"stroke='{LINE}'/>"
    )
    return f"<g text-anchor='middle'>{rect}{text}</g>"
