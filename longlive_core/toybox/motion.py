"""Motion of the toybox's subject: its state, and for each action the step from one frame to the next.

The picture is a torus: a subject that leaves it on one side enters on the other. Every action starts from any state, so
an action can change at any frame while place, angle and size stay continuous.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import HEIGHT, WIDTH

PACE = 4.0 / 3.0  # pixels a frame: one model token in the 12 frames of a chunk
SETTLE = 2.0  # pixels a frame, on the way back into an action's range
INNER_X, INNER_Y = (34.0, 94.0), (34.0, 46.0)  # where a subject that does not travel stays
GROUND = 52.0  # height (y) from which a subject hops
HOP_FRAMES, HOP_HEIGHT = 24, 24.0
ORBIT, ORBIT_FRAMES = 14.0, 48  # radius, period
ORBIT_X, ORBIT_Y = (48.0, 80.0), (40.0, 40.0)  # range of its centre
TURN_FRAMES = 48
SWELL, SWELL_FRAMES = 0.3, 48


@dataclass(frozen=True)
class State:
    """The subject's state: centre in pixels, angle in turns, and its progress in a hop, an orbit and a pulse.

    The last three count frames. `hop` and `orbit` are -1 outside a hop or an orbit; `swell` 0 is the normal size.
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


def _into(value: float, bounds: tuple[float, float]) -> float:
    """Move `value` towards the range by at most `SETTLE`."""
    return value + max(-SETTLE, min(SETTLE, min(max(value, bounds[0]), bounds[1]) - value))


def _calm(state: State) -> State:
    """Undo what other actions left: turn on until upright, return to the normal size, end a hop or an orbit."""
    angle = 0.0 if state.angle == 0.0 else state.angle + 2.0 / TURN_FRAMES
    swell = 0 if state.swell == 0 else state.swell + 2
    return replace(
        state, angle=0.0 if angle >= 1.0 else angle, swell=0 if swell >= SWELL_FRAMES else swell, hop=-1, orbit=-1
    )


def _rest(state: State) -> State:
    return replace(_calm(state), x=_into(state.x, INNER_X), y=_into(state.y, INNER_Y))


def _travel(across: int, down: int) -> Callable[[State], State]:
    """Return the motion in one of the four directions; the subject re-enters on the opposite side."""

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


def start_state(action: str, rng: np.random.Generator | None = None) -> State:
    """Return the state at a film's first frame: in the middle, or with `rng` at a random point of the action."""
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
