"""Drawing the toybox's pictures: the subject's colours and shapes, and the textured ground of each setting.

Shapes: T frames, H, W pixels. A picture can be drawn in part: a region is (top, left, height, width).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from . import HEIGHT, WIDTH
from .motion import State

Region = tuple[int, int, int, int]
WHOLE: Region = (0, 0, HEIGHT, WIDTH)
RADIUS = 20.0  # of the ball, pixels; the other shapes have about the same area
OUTLINE = 2.0  # pixels
MARKER = 5.0  # radius of the dark dot that makes turning visible
INK = (24.0, 24.0, 30.0)

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (222.0, 30.0, 36.0),
    "orange": (252.0, 136.0, 24.0),
    "yellow": (252.0, 226.0, 40.0),
    "green": (40.0, 214.0, 84.0),
    "blue": (40.0, 92.0, 250.0),
    "purple": (142.0, 44.0, 204.0),
    "pink": (252.0, 138.0, 194.0),
    "white": (250.0, 250.0, 250.0),
}


# --- shapes: signed distance in pixels (negative inside) of points x, y from the outline -----------------------------


def _ball(x, y):
    return np.hypot(x, y) - RADIUS


def _square(x, y):
    return np.maximum(np.abs(x), np.abs(y)) - 0.9 * RADIUS


def _triangle(x, y):
    side = 0.8660254 * np.abs(x) - 0.5 * y
    return np.maximum(side, y) - 0.64 * RADIUS


def _star(x, y):
    outer, inner = 1.3 * RADIUS, 0.62 * RADIUS
    sector = 2 * math.pi / 5
    angle = np.arctan2(x, -y)
    angle = np.abs((angle + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    px, py = radius * np.cos(angle), radius * np.sin(angle)
    ex, ey = inner * math.cos(sector / 2) - outer, inner * math.sin(sector / 2)
    return ((px - outer) * ey - py * ex) / math.hypot(ex, ey)


SHAPES: dict[str, Callable] = {"ball": _ball, "square": _square, "triangle": _triangle, "star": _star}


# --- settings: a 16 x 16 pixel tile each -----------------------------------------------------------------------------

TILE = 16


def _grid():
    return np.meshgrid(np.arange(TILE) + 0.5, np.arange(TILE) + 0.5)


def _paint(base, *marks):
    """Paint (coverage [16, 16], colour) marks over a tile of colour `base`."""
    tile = np.ones((TILE, TILE, 3)) * np.array(base)
    for coverage, colour in marks:
        coverage = np.clip(coverage, 0.0, 1.0)[..., None]
        tile = tile * (1 - coverage) + coverage * np.array(colour)
    return tile.astype(np.float32)


def _dot(cx, cy, radius):
    """Return the coverage of a dot that wraps around the tile's edges."""
    x, y = _grid()
    dx, dy = (x - cx + 8) % TILE - 8, (y - cy + 8) % TILE - 8
    return radius + 0.5 - np.hypot(dx, dy)


def _stroke(cx, cy, half_width, half_height):
    x, y = _grid()
    dx, dy = (x - cx + 8) % TILE - 8, (y - cy + 8) % TILE - 8
    return np.minimum(half_width + 0.5 - np.abs(dx), half_height + 0.5 - np.abs(dy))


def _meadow():
    dark, light = (62.0, 128.0, 52.0), (150.0, 206.0, 96.0)
    return _paint(
        (98, 166, 72),
        (_stroke(3, 5, 1, 3), dark),
        (_stroke(6, 6, 1, 2), light),
        (_stroke(11, 12, 1, 3), dark),
        (_stroke(14, 13, 1, 2), light),
    )


def _sea():
    x, y = _grid()
    wave = 1.5 * np.sin(2 * math.pi * x / TILE)
    crest = 1.5 - np.abs(y - 4 - wave)
    trough = 1.5 - np.abs(y - 12 + wave)
    return _paint((74, 146, 206), (crest, (176.0, 220.0, 246.0)), (trough, (46.0, 108.0, 178.0)))


def _desert():
    return _paint((226, 190, 122), (_dot(4, 4, 2.0), (190.0, 146.0, 82.0)), (_dot(12, 12, 2.0), (190.0, 146.0, 82.0)))


def _night():
    return _paint((22, 22, 62), (_dot(4, 5, 1.2), (250.0, 246.0, 190.0)), (_dot(12, 12, 0.8), (190.0, 196.0, 240.0)))


def _wall():
    mortar = (206.0, 200.0, 194.0)
    x, y = _grid()
    seams = np.where(y < 8, _stroke(4, 4, 0.6, 4), _stroke(12, 12, 0.6, 4))
    return _paint((136, 116, 110), (np.maximum(_stroke(8, 0, 9, 0.6), _stroke(8, 8, 9, 0.6)), mortar), (seams, mortar))


def _snow():
    blue = (166.0, 194.0, 230.0)
    flake = np.maximum(_stroke(5, 5, 2.5, 0.5), _stroke(5, 5, 0.5, 2.5))
    return _paint((232, 239, 247), (flake, blue), (_dot(12, 12, 1.2), blue))


SETTINGS: dict[str, np.ndarray] = {
    "meadow": _meadow(),
    "sea": _sea(),
    "desert": _desert(),
    "night": _night(),
    "wall": _wall(),
    "snow": _snow(),
}


def coverage(shape: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where a subject's colour is, and where the subject is at all (its outline and dot are ink), in [0, 1].

    x, y [T, H, W] are pixels in the subject's own frame, from `own_coordinates`.
    """
    distance = SHAPES[shape](x, y)
    mask = np.clip(0.5 - distance, 0.0, 1.0)
    body = np.clip(0.5 - distance - OUTLINE, 0.0, 1.0)
    dot = np.clip(MARKER + 0.5 - np.hypot(x, y + 0.45 * RADIUS), 0.0, 1.0)
    return body * (1 - dot), mask


def _nearest(offset: np.ndarray, period: float) -> np.ndarray:
    """Return the offsets to the nearest image of the subject, which repeats with the picture's size."""
    return (offset + period / 2) % period - period / 2


def own_coordinates(states: Sequence[State], region: Region = WHOLE) -> tuple[np.ndarray, np.ndarray]:
    """Return x, y [T, H, W] of the pixels in the subject's own frame: from its centre, turned and scaled with it."""
    top, left, height, width = region
    table = np.array([(s.x, s.y, 2 * math.pi * s.angle, s.size) for s in states], np.float32)[:, :, None, None]
    dx = _nearest(np.arange(width, dtype=np.float32)[None, None, :] + (left + 0.5) - table[:, 0], WIDTH) / table[:, 3]
    dy = _nearest(np.arange(height, dtype=np.float32)[None, :, None] + (top + 0.5) - table[:, 1], HEIGHT) / table[:, 3]
    cos, sin = np.cos(table[:, 2]), np.sin(table[:, 2])
    return dx * cos + dy * sin, dy * cos - dx * sin


def _ground(setting: str, region: Region) -> np.ndarray:
    top, left, height, width = region
    rows, columns = (np.arange(height) + top) % TILE, (np.arange(width) + left) % TILE
    return SETTINGS[setting][rows][:, columns]


def draw(
    colour: str, shape: str, setting: str, states: Sequence[State], region: Region = WHOLE
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the subject over its ground: frames float32 [T, H, W, 3] in 0 to 255, and subject masks [T, H, W]."""
    body, mask = coverage(shape, *own_coordinates(states, region))
    ground, ink, fill = _ground(setting, region), np.array(INK, np.float32), np.array(COLOURS[colour], np.float32)
    return ground + mask[..., None] * (ink - ground) + body[..., None] * (fill - ink), mask
