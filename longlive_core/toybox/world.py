"""The toybox: a procedural world of one subject that does something in a setting, rendered at 16 frames a second.

A subject has a colour and a shape, does one action, and stands in a setting (a textured ground of its own colour).
The state of the subject is a handful of numbers that each action moves on by one frame, so a film can go on for
minutes and an action can change at any frame while place, angle and size stay continuous. What leaves the picture on
one side comes in again on the other. Colour, shape and setting of a new prompt fade in over `FADE` frames. Everything
follows from the seed; nothing reads a clock.

The world is made so that a very small model can learn it: textures repeat every 16 pixels on a 16-pixel grid (one
model token), motion is smooth, its periods are whole chunks (12 frames), and a film starts in the middle.

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
    """Where the subject is: centre in pixels, angle in turns, and how far it is in a hop, an orbit, a swelling.

    The last three count frames; hop and orbit are -1 while there is none, a swelling of 0 is the usual size.
    """

    x: float
    y: float
    angle: float = 0.0
    hop: int = -1
    orbit: int = -1
    swell: int = 0

    @property
    def size(self) -> float:
        """The factor on the subject's radius."""
        return 1.0 + SWELL * math.sin(2 * math.pi * self.swell / SWELL_FRAMES)


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


# --- actions: one frame of motion ------------------------------------------------------------------------------------

PACE = 4.0 / 3.0  # pixels a frame: one model token in the 12 frames of a chunk
SETTLE = 2.0  # pixels a frame, on the way back to where an action belongs
INNER_X, INNER_Y = (34.0, 94.0), (34.0, 46.0)  # where a subject stays that does not travel
GROUND = 52.0  # height (y) from which a subject hops
HOP_FRAMES, HOP_HEIGHT = 24, 24.0
ORBIT, ORBIT_FRAMES = 14.0, 48  # radius, period
ORBIT_X, ORBIT_Y = (48.0, 80.0), (40.0, 40.0)  # where its centre stays
TURN_FRAMES = 48
SWELL, SWELL_FRAMES = 0.3, 48


def _into(value: float, bounds: tuple[float, float]) -> float:
    """`value`, at most one step of settling nearer to the range."""
    return value + max(-SETTLE, min(SETTLE, min(max(value, bounds[0]), bounds[1]) - value))


def _calm(state: State) -> State:
    """End what other actions left behind: turn on until upright, shrink to the usual size; no hop, no orbit."""
    angle = 0.0 if state.angle == 0.0 else state.angle + 2.0 / TURN_FRAMES
    swell = 0 if state.swell == 0 else state.swell + 2
    return replace(
        state, angle=0.0 if angle >= 1.0 else angle, swell=0 if swell >= SWELL_FRAMES else swell, hop=-1, orbit=-1
    )


def _rest(state: State) -> State:
    return replace(_calm(state), x=_into(state.x, INNER_X), y=_into(state.y, INNER_Y))


def _travel(across: int, down: int) -> Callable[[State], State]:
    """Motion in one of the four directions, in at the other side for ever."""

    def move(state: State) -> State:
        x = (state.x + PACE * across) % WIDTH if across else _into(state.x, INNER_X)
        y = (state.y + PACE * down) % HEIGHT if down else _into(state.y, INNER_Y)
        return replace(_calm(state), x=x, y=y)

    return move


def _bounce(state: State) -> State:
    hop = (state.hop + 1) % HOP_FRAMES

    def lift(frame: int) -> float:
        return HOP_HEIGHT * 4 * (frame / HOP_FRAMES) * (1 - frame / HOP_FRAMES)

    ground = _into(state.y + lift(max(state.hop, 0)), (GROUND, GROUND))
    return replace(_calm(state), x=_into(state.x, INNER_X), y=ground - lift(hop), hop=hop)


def _circle(state: State) -> State:
    before = max(state.orbit, 0)
    orbit = (before + 1) % ORBIT_FRAMES
    old, new = (2 * math.pi * frame / ORBIT_FRAMES for frame in (before, orbit))
    x = _into(state.x - ORBIT * math.cos(old), ORBIT_X) + ORBIT * math.cos(new)
    y = _into(state.y - ORBIT * math.sin(old), ORBIT_Y) + ORBIT * math.sin(new)
    return replace(_calm(state), x=x, y=y, orbit=orbit)


def _spin(state: State) -> State:
    return replace(_rest(state), angle=(state.angle + 1.0 / TURN_FRAMES) % 1.0)


def _pulse(state: State) -> State:
    return replace(_rest(state), swell=(state.swell + 1) % SWELL_FRAMES)


ACTIONS: dict[str, Callable[[State], State]] = {
    "left": _travel(-1, 0),
    "right": _travel(1, 0),
    "up": _travel(0, -1),
    "down": _travel(0, 1),
    "bounce": _bounce,
    "circle": _circle,
    "spin": _spin,
    "pulse": _pulse,
    "rest": _rest,
}

TABLES: dict[str, dict] = {"colour": COLOURS, "shape": SHAPES, "action": ACTIONS, "setting": SETTINGS}


def is_held_out(attributes: Attributes) -> bool:
    """Whether this combination is kept out of training (one in eight; every pair of attributes is still seen)."""
    places = (list(table).index(getattr(attributes, field)) for field, table in TABLES.items())
    return sum(weight * place for weight, place in zip((1, 3, 5, 2), places, strict=True)) % 8 == 0


def start_state(action: str, rng: np.random.Generator | None = None) -> State:
    """The state at a film's first frame: in the middle, or somewhere in an action's course with `rng`."""
    x, y, quarter = WIDTH / 2, HEIGHT / 2, 1
    if rng is not None:
        x, quarter = float(rng.uniform(*INNER_X)), int(rng.integers(4))
        y = float(rng.uniform(0, HEIGHT)) if action in ("up", "down") else y
    if action == "bounce":
        return State(x, GROUND, hop=0)
    if action == "circle":
        turn = quarter * math.pi / 2
        return State(
            WIDTH / 2 + ORBIT * math.cos(turn), HEIGHT / 2 + ORBIT * math.sin(turn), orbit=quarter * ORBIT_FRAMES // 4
        )
    return State(x, y)


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


def coverage(shape: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a subject's colour is, and where the subject is at all (its outline and dot are ink), in [0, 1].

    x, y [T, H, W] are pixels in the subject's own frame, from `own_coordinates`.
    """
    distance = SHAPES[shape](x, y)
    mask = np.clip(0.5 - distance, 0.0, 1.0)
    body = np.clip(0.5 - distance - OUTLINE, 0.0, 1.0)
    dot = np.clip(MARKER + 0.5 - np.hypot(x, y + 0.45 * RADIUS), 0.0, 1.0)
    return body * (1 - dot), mask


def _look(attributes: Attributes, x: np.ndarray, y: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, H, W, 3] and masks [T, H, W] of one look over `ground`."""
    body, mask = coverage(attributes.shape, x, y)
    ink, colour = np.array(INK, np.float32), np.array(COLOURS[attributes.colour], np.float32)
    return ground + mask[..., None] * (ink - ground) + body[..., None] * (colour - ink), mask


def render(
    script: Sequence[tuple[int, Attributes]],
    states: Sequence[State],
    first: int = 0,
    window: tuple[int, int, int, int] = (0, 0, HEIGHT, WIDTH),
) -> tuple[np.ndarray, np.ndarray]:
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


def _nearest(offset: np.ndarray, period: float) -> np.ndarray:
    """Offsets to the nearest of the subject's images, which repeat with the picture's size."""
    return (offset + period / 2) % period - period / 2


def own_coordinates(
    states: Sequence[State], window: tuple[int, int, int, int] = (0, 0, HEIGHT, WIDTH)
) -> tuple[np.ndarray, np.ndarray]:
    """x, y [T, H, W] of the window's pixels as the subject sees them: from its centre, turned and scaled with it."""
    top, left, height, width = window
    table = np.array([(s.x, s.y, 2 * math.pi * s.angle, s.size) for s in states], np.float32)[:, :, None, None]
    dx = _nearest(np.arange(width, dtype=np.float32)[None, None, :] + (left + 0.5) - table[:, 0], WIDTH) / table[:, 3]
    dy = _nearest(np.arange(height, dtype=np.float32)[None, :, None] + (top + 0.5) - table[:, 1], HEIGHT) / table[:, 3]
    cos, sin = np.cos(table[:, 2]), np.sin(table[:, 2])
    return dx * cos + dy * sin, dy * cos - dx * sin


def _render_part(attributes: Attributes, states: Sequence[State], window: tuple[int, int, int, int]):
    top, left, height, width = window
    x, y = own_coordinates(states, window)
    return _look(attributes, x, y, _ground(attributes.setting, height, width, top, left))


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


def changed_attributes(attributes: Attributes, rng: np.random.Generator, held_out: bool = False) -> Attributes:
    """Another combination for the next prompt: usually one or two attributes change, the rest stays."""
    while True:
        count = rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.15, 0.15])
        fields = rng.choice(list(TABLES), size=count, replace=False)
        other = random_attributes(rng)
        new = replace(attributes, **{field: getattr(other, field) for field in fields})
        if new != attributes and is_held_out(new) == held_out:
            return new


def changed_action(attributes: Attributes, rng: np.random.Generator) -> Attributes:
    """The same subject and setting with another action, any of those that are not held out with them."""
    others = [replace(attributes, action=action) for action in ACTIONS if action != attributes.action]
    allowed = [look for look in others if not is_held_out(look)]
    return allowed[rng.integers(len(allowed))]
