"""The toybox: a procedural world of one subject that does something in a setting, rendered at 16 frames a second.

A subject has a colour and a shape, does one action, and stands in a setting (a textured ground of its own colour).
The state of the subject is a handful of numbers that each action moves on by one frame, so a film can go on for
minutes and an action can change at any frame while place, angle and phase stay continuous. Colour, shape and
setting of a new prompt fade in over `FADE` frames. Everything follows from the seed; nothing reads a clock.

The world is made so that a very small model can learn it: textures repeat every 16 pixels on a 16-pixel grid (one
model token), motion is smooth and periodic, and a film starts in one of a few places.

To add a colour, shape, action or setting: one entry in the table here, and its words in `captions.py`.

Shapes: T frames, H, W pixels. Frames are uint8 [T, H, W, 3]; subject masks are float32 [T, H, W] in [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

FPS = 16
WIDTH, HEIGHT = 128, 80
FADE = 8  # frames over which a change of colour, shape or setting fades in
RADIUS = 14.0  # of the ball, pixels; the other shapes have about the same area
OUTLINE = 2.0  # pixels
MARKER = 3.0  # radius of the dark dot that makes turning visible
INK = (24.0, 24.0, 30.0)

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (228.0, 36.0, 40.0),
    "yellow": (252.0, 218.0, 40.0),
    "green": (40.0, 214.0, 84.0),
    "blue": (40.0, 92.0, 250.0),
    "purple": (158.0, 52.0, 206.0),
    "white": (250.0, 250.0, 250.0),
}


@dataclass(frozen=True)
class Attributes:
    """What a prompt asks for. Every field names an entry of its table."""

    colour: str
    shape: str
    action: str
    setting: str

    def __post_init__(self) -> None:
        for field, table in TABLES.items():
            if getattr(self, field) not in table:
                value = getattr(self, field)
                raise ValueError(f"{field} {value!r} is not in the toybox: allowed are {', '.join(table)}")


@dataclass(frozen=True)
class State:
    """Where the subject is: centre in pixels, direction of travel, angle in turns, frames since its hop began."""

    x: float
    y: float
    direction: float = 1.0
    angle: float = 0.0
    hop: int = -1  # -1 while it is not on the ground yet


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
    """A tile of colour `base` with (coverage [16, 16], colour) marks laid over it."""
    tile = np.ones((TILE, TILE, 3)) * np.array(base)
    for coverage, colour in marks:
        coverage = np.clip(coverage, 0.0, 1.0)[..., None]
        tile = tile * (1 - coverage) + coverage * np.array(colour)
    return tile.astype(np.float32)


def _dot(cx, cy, radius):
    """Coverage of a dot that wraps around the tile's edges."""
    x, y = _grid()
    dx, dy = (x - cx + 8) % TILE - 8, (y - cy + 8) % TILE - 8
    return radius + 0.5 - np.hypot(dx, dy)


def _stroke(cx, cy, half_width, half_height):
    x, y = _grid()
    dx, dy = (x - cx + 8) % TILE - 8, (y - cy + 8) % TILE - 8
    return np.minimum(half_width + 0.5 - np.abs(dx), half_height + 0.5 - np.abs(dy))


def _meadow():
    dark, light = (62.0, 128.0, 52.0), (150.0, 206.0, 96.0)
    return _paint((98, 166, 72), (_stroke(3, 5, 1, 3), dark), (_stroke(6, 6, 1, 2), light),
                  (_stroke(11, 12, 1, 3), dark), (_stroke(14, 13, 1, 2), light))


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
    "meadow": _meadow(), "sea": _sea(), "desert": _desert(), "night": _night(), "wall": _wall(), "snow": _snow(),
}


# --- actions: one frame of motion ------------------------------------------------------------------------------------

LANE, GROUND = 46.0, 58.0  # heights (y) at which the subject travels and from which it hops
LEFT, RIGHT = 24.0, 104.0  # turning points of a subject that moves from side to side
HOP_FRAMES, HOP_HEIGHT = 12, 28.0
ORBIT, ORBIT_FRAMES = 20.0, 48
TURN_FRAMES = 48
PACE = 2.0  # pixels a frame


def _towards(value: float, goal: float, step: float) -> float:
    return goal if abs(goal - value) <= step else value + math.copysign(step, goal - value)


def _upright(state: State) -> State:
    """Turn on until upright, then stay so; come to the lane."""
    angle = 0.0 if state.angle == 0.0 else state.angle + 2.0 / TURN_FRAMES
    return replace(state, angle=0.0 if angle >= 1.0 else angle, y=_towards(state.y, LANE, PACE), hop=-1)


def _rest(state: State) -> State:
    return _upright(state)


def _move(state: State) -> State:
    state = _upright(state)
    direction = state.direction
    if not LEFT < state.x + PACE * direction < RIGHT:
        direction = 1.0 if state.x < (LEFT + RIGHT) / 2 else -1.0
    return replace(state, x=state.x + PACE * direction, direction=direction)


def _bounce(state: State) -> State:
    upright = _upright(state)
    if state.hop < 0:  # fall to the ground first, then hop
        y = _towards(state.y, GROUND, 3.0)
        return replace(upright, y=y, hop=0 if y == GROUND else -1)
    hop = (state.hop + 1) % HOP_FRAMES
    phase = hop / HOP_FRAMES
    return replace(upright, y=GROUND - HOP_HEIGHT * 4 * phase * (1 - phase), hop=hop)


def _circle(state: State) -> State:
    upright = _upright(state)
    dx, dy = state.x - WIDTH / 2, state.y - HEIGHT / 2
    angle = math.atan2(dy, dx) + 2 * math.pi / ORBIT_FRAMES
    radius = _towards(math.hypot(dx, dy), ORBIT, PACE)
    return replace(upright, x=WIDTH / 2 + radius * math.cos(angle), y=HEIGHT / 2 + radius * math.sin(angle))


def _spin(state: State) -> State:
    return replace(state, angle=(state.angle + 1.0 / TURN_FRAMES) % 1.0, y=_towards(state.y, LANE, PACE), hop=-1)


ACTIONS: dict[str, Callable[[State], State]] = {
    "move": _move, "bounce": _bounce, "circle": _circle, "spin": _spin, "rest": _rest,
}

TABLES: dict[str, dict] = {"colour": COLOURS, "shape": SHAPES, "action": ACTIONS, "setting": SETTINGS}


def is_held_out(attributes: Attributes) -> bool:
    """Whether this combination is kept out of training (one in eight; every pair of attributes is still seen)."""
    places = (list(table).index(getattr(attributes, field)) for field, table in TABLES.items())
    return sum(weight * place for weight, place in zip((1, 3, 5, 2), places, strict=True)) % 8 == 0


def start_state(action: str, rng: np.random.Generator | None = None) -> State:
    """The state at a film's first frame: in the middle, or one of a few places with `rng`."""
    x, direction, quarter = WIDTH / 2, 1.0, 1
    if rng is not None:
        x = (40.0, 64.0, 88.0)[rng.integers(3)]
        direction = (-1.0, 1.0)[rng.integers(2)]
        quarter = int(rng.integers(4))
    if action == "bounce":
        return State(x, GROUND, direction, hop=0)
    if action == "circle":
        angle = quarter * math.pi / 2
        return State(WIDTH / 2 + ORBIT * math.cos(angle), HEIGHT / 2 + ORBIT * math.sin(angle), direction)
    return State(x, LANE, direction)


def simulate(script: Sequence[tuple[int, Attributes]], frames: int, seed: int | None = None) -> list[State]:
    """The subject's state at each of `frames` frames; without a seed it starts in the middle.

    `script` is the prompts in order as (first frame, attributes); the first one starts at frame 0. ValueError where
    it does not, or where the frames do not increase.
    """
    starts = [start for start, _ in script]
    if not starts or starts[0] != 0 or any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
        raise ValueError(f"a script starts at frame 0 and its frames increase, got {starts}")
    state = start_state(script[0][1].action, None if seed is None else np.random.default_rng(seed))
    states = [state]
    for frame in range(1, frames):
        action = [attributes.action for start, attributes in script if start <= frame][-1]
        state = ACTIONS[action](state)
        states.append(state)
    return states


def _ground(setting: str, height: int, width: int, top: int, left: int) -> np.ndarray:
    tile = SETTINGS[setting]
    rows, columns = (np.arange(height) + top) % TILE, (np.arange(width) + left) % TILE
    return tile[rows][:, columns]


def _look(attributes: Attributes, x: np.ndarray, y: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, H, W, 3] and masks [T, H, W] of one look; x, y [T, H, W] are pixels in the subject's own frame."""
    distance = SHAPES[attributes.shape](x, y)
    mask = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    body = np.clip(0.5 - distance - OUTLINE, 0.0, 1.0)[..., None]
    dot = np.clip(MARKER + 0.5 - np.hypot(x, y + 0.34 * RADIUS), 0.0, 1.0)[..., None]
    ink, colour = np.array(INK, np.float32), np.array(COLOURS[attributes.colour], np.float32)
    image = ground * (1 - mask) + mask * ink
    image = image * (1 - body) + body * colour
    return image * (1 - dot) + dot * ink, mask[..., 0]


def render(script: Sequence[tuple[int, Attributes]], states: Sequence[State], first: int = 0,
           window: tuple[int, int, int, int] = (0, 0, HEIGHT, WIDTH)) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [T, H, W, 3] and subject masks float32 [T, H, W] of `states`, whose first one is frame `first`.

    `window` is (top, left, height, width) of the part of the picture that is rendered.
    """
    top, left, height, width = window
    images = np.empty((len(states), height, width, 3), np.float32)
    masks = np.empty((len(states), height, width), np.float32)
    starts = [start for start, _ in script] + [first + len(states)]
    for index, (start, attributes) in enumerate(script):
        begin, end = max(start, first) - first, min(starts[index + 1], first + len(states)) - first
        if end <= begin:
            continue
        images[begin:end], masks[begin:end] = _render_part(attributes, states[begin:end], window)
        fading = min(end, start + FADE - first)
        if index and fading > begin:
            old, old_masks = _render_part(script[index - 1][1], states[begin:fading], window)
            mix = ((np.arange(begin, fading) + first - start + 1) / FADE).astype(np.float32)
            images[begin:fading] += (1 - mix)[:, None, None, None] * (old - images[begin:fading])
            masks[begin:fading] = np.maximum(masks[begin:fading], old_masks)
    return (images + 0.5).astype(np.uint8), masks


def _render_part(attributes: Attributes, states: Sequence[State], window: tuple[int, int, int, int]):
    top, left, height, width = window
    table = np.array([(s.x, s.y, 2 * math.pi * s.angle) for s in states], np.float32)[:, :, None, None]
    dx = np.arange(width, dtype=np.float32)[None, None, :] + (left + 0.5) - table[:, 0]
    dy = np.arange(height, dtype=np.float32)[None, :, None] + (top + 0.5) - table[:, 1]
    cos, sin = np.cos(table[:, 2]), np.sin(table[:, 2])
    ground = _ground(attributes.setting, height, width, top, left)
    return _look(attributes, dx * cos + dy * sin, dy * cos - dx * sin, ground)


def film(
    script: Sequence[tuple[int, Attributes]], frames: int, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """A film of the toybox: frames uint8 [T, 80, 128, 3] and subject masks float32 [T, 80, 128]."""
    return render(script, simulate(script, frames, seed))


def random_attributes(rng: np.random.Generator, held_out: bool = False) -> Attributes:
    """A random combination that is (not) held out from training."""
    while True:
        attributes = Attributes(**{field: list(table)[rng.integers(len(table))] for field, table in TABLES.items()})
        if is_held_out(attributes) == held_out:
            return attributes


def changed_attributes(attributes: Attributes, rng: np.random.Generator) -> Attributes:
    """Another combination for the next prompt: usually one or two attributes change, the rest stays."""
    while True:
        count = rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.15, 0.15])
        fields = rng.choice(list(TABLES), size=count, replace=False)
        other = random_attributes(rng)
        new = replace(attributes, **{field: getattr(other, field) for field in fields})
        if new != attributes and not is_held_out(new):
            return new
