"""The toybox: a procedural world in which one subject performs an action in a setting, at 16 frames per second.

A subject has a colour and a shape and performs one action in a setting (a textured ground of its own colour). Its state
is a few numbers, and each action advances them by one frame (`motion.py`). A film can therefore last minutes, and the
action can change at any frame while place, angle and size stay continuous. What leaves the picture on one side enters
on the other. Colour, shape and setting of a new prompt fade in over `FADE` frames (`drawing.py` draws them). Everything
follows from the seed; nothing reads a clock.

The world is built so that a very small model can learn it: textures repeat every 16 pixels on a 16-pixel grid (one
model token), motion is smooth, its periods are whole chunks (12 frames), and a film starts in the middle.

The shipped weights were trained on these films: if what is drawn changes, they must be trained again. To add a colour,
shape, action or setting, add an entry to its table in `drawing.py` or `motion.py`, and its words to `captions.py`.

Shapes: T frames, H, W pixels. Frames are uint8 [T, H, W, 3]; subject masks are float32 [T, H, W] in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .drawing import COLOURS, SETTINGS, SHAPES, WHOLE, Region, draw
from .motion import ACTIONS, State, start_state

FADE = 8  # frames over which a change of colour, shape or setting fades in
TABLES: dict[str, dict] = {"colour": COLOURS, "shape": SHAPES, "action": ACTIONS, "setting": SETTINGS}


@dataclass(frozen=True)
class Attributes:
    """What a prompt requests. Every field names an entry of its table in `TABLES`."""

    colour: str
    shape: str
    action: str
    setting: str

    def __post_init__(self) -> None:
        for field, table in TABLES.items():
            if getattr(self, field) not in table:
                value = getattr(self, field)
                raise ValueError(f"{field} {value!r} is not in the toybox: allowed are {', '.join(table)}")


def is_held_out(attributes: Attributes) -> bool:
    """Return whether training excludes this combination: one in eight; training shows every pair of attributes."""
    places = (list(table).index(getattr(attributes, field)) for field, table in TABLES.items())
    return sum(weight * place for weight, place in zip((1, 3, 5, 2), places, strict=True)) % 8 == 0


def simulate(script: Sequence[tuple[int, Attributes]], frames: int, seed: int | None = None) -> list[State]:
    """Return the subject's state at each of `frames` frames; without a seed it starts in the middle.

    `script` lists the prompts in order as (first frame, attributes). ValueError if the first one does not start at
    frame 0, or if the frames do not increase.
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


def render(
    script: Sequence[tuple[int, Attributes]],
    states: Sequence[State],
    first: int = 0,
    region: Region = WHOLE,
) -> tuple[np.ndarray, np.ndarray]:
    """Render `states`, the first of which is frame `first`: frames uint8 [T, H, W, 3] and masks float32 [T, H, W].

    `region` is (top, left, height, width) of the part of the picture to render.
    """
    height, width = region[2:]
    images = np.empty((len(states), height, width, 3), np.float32)
    masks = np.empty((len(states), height, width), np.float32)
    starts = [start for start, _ in script] + [first + len(states)]
    for index, (start, attributes) in enumerate(script):
        begin, end = max(start, first) - first, min(starts[index + 1], first + len(states)) - first
        if end <= begin:
            continue
        images[begin:end], masks[begin:end] = _draw(attributes, states[begin:end], region)
        fading = min(end, start + FADE - first)
        if index and fading > begin:
            old, old_masks = _draw(script[index - 1][1], states[begin:fading], region)
            mix = ((np.arange(begin, fading) + first - start + 1) / FADE).astype(np.float32)
            images[begin:fading] += (1 - mix)[:, None, None, None] * (old - images[begin:fading])
            masks[begin:fading] = np.maximum(masks[begin:fading], old_masks)
    return (images + 0.5).astype(np.uint8), masks


def _draw(attributes: Attributes, states: Sequence[State], region: Region) -> tuple[np.ndarray, np.ndarray]:
    return draw(attributes.colour, attributes.shape, attributes.setting, states, region)


def film(
    script: Sequence[tuple[int, Attributes]], frames: int, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Render a film of the toybox: frames uint8 [T, 80, 128, 3] and subject masks float32 [T, 80, 128]."""
    return render(script, simulate(script, frames, seed))


def random_attributes(rng: np.random.Generator, held_out: bool = False) -> Attributes:
    """Draw a random combination: one that training excludes if `held_out`, otherwise one that it includes."""
    while True:
        attributes = Attributes(**{field: list(table)[rng.integers(len(table))] for field, table in TABLES.items()})
        if is_held_out(attributes) == held_out:
            return attributes


def changed_attributes(attributes: Attributes, rng: np.random.Generator, held_out: bool = False) -> Attributes:
    """Draw another combination for the next prompt: usually one or two attributes change and the others stay."""
    while True:
        count = rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.15, 0.15])
        fields = rng.choice(list(TABLES), size=count, replace=False)
        other = random_attributes(rng)
        new = replace(attributes, **{field: getattr(other, field) for field in fields})
        if new != attributes and is_held_out(new) == held_out:
            return new


def changed_action(attributes: Attributes, rng: np.random.Generator) -> Attributes:
    """Draw another action for the same subject and setting, among the combinations that training includes."""
    others = [replace(attributes, action=action) for action in ACTIONS if action != attributes.action]
    trained = [other for other in others if not is_held_out(other)]
    return trained[rng.integers(len(trained))]
