"""The toybox: the world on whose films the pocket model was trained, and by which later tests judge its films."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longlive_core.toybox import FPS, HEIGHT, WIDTH, motion, world
from longlive_core.toybox.world import Attributes

MINUTES = 3 * 60 * FPS
DRAWN = (
    Path(__file__).parent / "toybox_films.png"
)  # a row per film, drawn by the code that drew the weights' training films
SHOWN = [0, 11, 22, 25, 40, 47]  # frames of each film there; the prompt changes at frame 21

TRAVELS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def _steps(states) -> np.ndarray:
    """Steps between neighbouring states (x, y, angle, size); what leaves the picture comes in at the other side."""
    table = np.array([(s.x, s.y, s.angle, s.size) for s in states])
    period = np.array([WIDTH, HEIGHT, 1.0, 1e6])
    steps = np.diff(table, axis=0)
    return (steps + period / 2) % period - period / 2


@pytest.mark.parametrize("action", world.ACTIONS)
def test_motion_continues_for_minutes(action):
    """Forbids an action that comes to rest by itself, or (rest) does not rest, or runs out of the picture."""
    states = world.simulate([(0, Attributes("red", "ball", action, "sea"))], MINUTES, seed=3)
    last = _steps(states[-5 * FPS :])
    assert (np.abs(last).max() > 0) == (action != "rest")
    places = np.array([(s.x, s.y) for s in states])
    margin = 0 if action in TRAVELS else 20
    assert places.min() >= margin
    assert places[:, 0].max() < WIDTH - margin and places[:, 1].max() < HEIGHT - margin


@pytest.mark.parametrize("action", TRAVELS)
def test_a_subject_travels_where_its_prompt_says(action):
    """Forbids directions mixed up, such as "up" along the growing rows of a picture."""
    states = world.simulate([(0, Attributes("red", "ball", action, "sea"))], 60, seed=1)
    assert np.allclose(_steps(states)[:, :2], motion.PACE * np.array(TRAVELS[action]))


def test_what_grows_also_shrinks():
    """Forbids a subject that outgrows the picture, or never leaves its usual size."""
    sizes = [s.size for s in world.simulate([(0, Attributes("red", "ball", "pulse", "sea"))], MINUTES)]
    assert 0.65 < min(sizes) < 0.75 and 1.25 < max(sizes) < 1.35


def test_motion_is_continuous_over_changes_of_action():
    """Forbids a subject that jumps, snaps upright or changes its size at once when the prompt changes."""
    rng = np.random.default_rng(1)
    for seed in range(40):
        script = [(0, world.random_attributes(rng))]
        script += [(21 + 24 * i, world.random_attributes(rng)) for i in range(5)]
        steps = np.abs(_steps(world.simulate(script, 160, seed)))
        assert np.hypot(steps[:, 0], steps[:, 1]).max() < 8
        assert steps[:, 2].max() < 0.05 and steps[:, 3].max() < 0.1


@pytest.mark.parametrize("action", world.ACTIONS)
def test_an_action_leaves_nothing_behind(action):
    """Forbids a subject that stays turned, swollen or split by the picture's edge when the prompt requests rest."""
    script = [(0, Attributes("red", "ball", action, "sea")), (57, Attributes("red", "ball", "rest", "sea"))]
    state = world.simulate(script, 120, seed=2)[-1]
    assert state.angle == 0 and state.size == 1
    assert motion.INNER_X[0] <= state.x <= motion.INNER_X[1] and motion.INNER_Y[0] <= state.y <= motion.INNER_Y[1]


def test_films_are_those_of_the_shipped_weights():
    """Forbids another picture for any colour, shape, action, setting or fade than the weights were trained on."""

    def look(number: int) -> Attributes:
        return Attributes(*(list(table)[number % len(table)] for table in world.TABLES.values()))

    films = [world.film([(0, look(n)), (21, look(n + 1))], 48, seed=n)[0] for n in range(len(world.ACTIONS))]
    sheet = np.concatenate([np.concatenate(list(film[SHOWN]), axis=1) for film in films])
    with Image.open(DRAWN) as image:
        expected = np.asarray(image.convert("RGB"))
    assert sheet.shape == expected.shape
    assert np.abs(sheet.astype(int) - expected).max() <= 1  # 0 where sines are rounded as on the machine that drew it


def test_films_follow_from_the_seed():
    """Forbids hidden randomness: a data set could not be rendered again."""
    script = [(0, Attributes("red", "star", "spin", "night")), (9, Attributes("blue", "star", "right", "night"))]
    one, masks = world.film(script, 33, seed=5)
    two, _ = world.film(script, 33, seed=5)
    assert one.shape == (33, 80, 128, 3) and one.dtype == np.uint8 and masks.shape == (33, 80, 128)
    assert np.array_equal(one, two)
    seeds = {motion.start_state("left", np.random.default_rng(seed)) for seed in range(30)}
    assert len(seeds) > 1


def test_a_window_is_a_cut_out_of_the_whole_picture():
    """Forbids crops whose ground or subject is shifted against the whole picture (the VAE is trained on crops)."""
    script = [(0, Attributes("green", "triangle", "circle", "wall")), (4, Attributes("red", "square", "up", "snow"))]
    states = world.simulate(script, 20, seed=2)
    whole, _ = world.render(script, states)
    part, _ = world.render(script, states[7:], 7, (16, 40, 48, 56))
    assert np.array_equal(part, whole[7:, 16:64, 40:96])


def test_the_mask_lies_on_the_subject():
    """Forbids masks that miss the subject: its colour is found inside, and not outside."""
    for colour, shape in itertools.product(world.COLOURS, world.SHAPES):
        frames, masks = world.film([(0, Attributes(colour, shape, "bounce", "meadow"))], 5, seed=0)
        near = np.abs(frames.astype(int) - np.array(world.COLOURS[colour])).max(axis=-1) < 8
        assert near[masks > 0.9].mean() > 0.4 and near[masks == 0].mean() < 0.01


def test_changes_of_look_fade_in():
    """Forbids a hard cut where only the prompt changes."""
    script = [(0, Attributes("red", "ball", "rest", "night")), (9, Attributes("red", "ball", "rest", "snow"))]
    frames, _ = world.film(script, 25, seed=0)
    steps = np.abs(np.diff(frames[:, 0, 0].astype(int), axis=0)).max(axis=-1)
    assert steps.max() <= 210 / world.FADE + 2 and np.array_equal(frames[9 + world.FADE, 0, 0], frames[24, 0, 0])


def test_every_pair_of_attributes_is_in_training():
    """Forbids a hold-out rule that hides, say, every red ball from training."""
    everything = [Attributes(*values) for values in itertools.product(*world.TABLES.values())]
    seen = [a for a in everything if not world.is_held_out(a)]
    assert 0.05 < 1 - len(seen) / len(everything) < 0.2
    for one, two in itertools.combinations(world.TABLES, 2):
        pairs = {(getattr(a, one), getattr(a, two)) for a in seen}
        assert len(pairs) == len(world.TABLES[one]) * len(world.TABLES[two])


def test_unknown_attributes_and_scripts_out_of_order_are_errors():
    """Forbids silent fallbacks."""
    with pytest.raises(ValueError, match="beige"):
        Attributes("beige", "ball", "left", "sea")
    look = Attributes("red", "ball", "left", "sea")
    with pytest.raises(ValueError, match="increase"):
        world.simulate([(0, look), (0, look)], 5, seed=0)
