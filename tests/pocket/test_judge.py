"""The judge: right on what the toybox itself draws, also through the VAE, and at chance on captions mixed up."""

from collections import Counter

import numpy as np
import pytest
import torch

from longlive_core.checkpoints.built_in import VAE_FILE, weights_folder
from longlive_core.device.precision import working_dtype
from longlive_core.pocket.clip_pool import pixels_of
from longlive_core.toybox import judge, motion, obedience, world
from longlive_core.vae import WanVAE, channels_last, decode, encode

FILMS, FRAMES = 36, 49


@pytest.fixture(scope="module")
def films() -> list[tuple[world.Attributes, np.ndarray]]:
    rng = np.random.default_rng(5)
    requested = [world.random_attributes(rng) for _ in range(FILMS)]
    return [(look, world.film([(0, look)], FRAMES, seed)[0]) for seed, look in enumerate(requested)]


def _share_right(readings: list[judge.Reading], requested: list[world.Attributes]) -> float:
    return float(np.mean([obedience.shows(r, a) for r, a in zip(readings, requested, strict=True)]))


def _as_the_vae_gives_it_back(films: list[np.ndarray]) -> list[np.ndarray]:
    from safetensors.torch import load_file

    weights = load_file(str(weights_folder() / VAE_FILE))
    vae = channels_last(WanVAE.from_state_dict(weights).to(working_dtype()))
    with torch.no_grad():
        given = [decode(vae, encode(vae, pixels_of(film[None]).to(working_dtype()))) for film in films]
    return [((g[0].float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy() for g in given]


@pytest.mark.slow
def test_the_judge_reads_the_toybox_and_nothing_but_the_picture(films):
    """Forbids a judge that misreads perfect films (then no score means anything), or that is right by luck."""
    requested = [look for look, _ in films]
    readings = [judge.read(judge.watch(film)) for _, film in films]
    assert _share_right(readings, requested) >= 0.95
    assert np.mean([r.shape == a.shape for r, a in zip(readings, requested, strict=True)]) >= 0.95
    mixed = [requested[(place + 7) % FILMS] for place in range(FILMS)]
    assert _share_right(readings, mixed) <= 0.1  # by chance about 1 in 8 * 6 * 9, more where neighbours agree


@pytest.mark.slow
def test_the_judge_reads_films_that_went_through_the_vae(films):
    """Forbids a judge that blames the transformer for what the VAE cannot show."""
    some = films[:4]
    readings = [judge.read(judge.watch(film)) for film in _as_the_vae_gives_it_back([film for _, film in some])]
    assert _share_right(readings, [look for look, _ in some]) >= 0.95


@pytest.mark.parametrize("setting", world.SETTINGS)
def test_bare_ground_has_no_subject(setting):
    """Forbids a judge that always sees something."""
    ground = np.tile(world.SETTINGS[setting], (5, 8, 1)).round().astype(np.uint8)
    noisy = np.clip(ground + np.random.default_rng(0).normal(0, 12, ground.shape), 0, 255).astype(np.uint8)
    for frame in (ground, noisy):
        sight = judge.look(frame)
        assert sight.setting == setting and sight.colour is None and sight.shape is None


def test_places_angles_and_sizes_are_read_over_the_pictures_edge():
    """Forbids tracks that break where a subject leaves on one side and comes in on the other."""
    look = world.Attributes("red", "star", "right", "sea")
    states = [motion.State(x, 70.0, 0.25) for x in (2.0, 64.0, 126.0)]
    frames, _ = world.render([(0, look)], states)
    for state, frame in zip(states, frames, strict=True):
        sight = judge.look(frame)
        assert abs(sight.x - state.x) <= 2 and abs(sight.y - state.y) <= 2
        assert sight.angle == 0.25 and sight.size == 1.0


@pytest.mark.slow
def test_a_switch_is_read_before_and_after_and_a_jump_is_seen():
    """Forbids a switch score that looks at the wrong side of the boundary or cannot see a jump."""
    one = world.Attributes("red", "ball", "right", "sea")
    two = world.Attributes("blue", "ball", "bounce", "night")
    frames, _ = world.film([(0, one), (69, two)], 140)
    seen = obedience.judge_switch(frames, 69)
    assert obedience.shows(seen.before, one) and obedience.shows(seen.after, two) and seen.smooth
    jumping = np.concatenate([frames[:69], np.roll(frames[69:], 48, axis=2)])
    assert not obedience.judge_switch(jumping, 69).smooth


def test_films_of_another_size_are_refused():
    """Forbids readings of pictures the judge has no templates for."""
    with pytest.raises(ValueError, match="80, 128"):
        judge.watch(np.zeros((4, 64, 64, 3), np.uint8))


def test_a_film_obeys_when_most_of_its_windows_do():
    """Forbids a film that counts as right for one good moment."""
    requested = world.Attributes("red", "ball", "up", "sea")
    right, wrong = judge.Reading("red", "star", "up", "sea"), judge.Reading("red", "ball", "rest", "sea")
    assert obedience.obeys([right, right, wrong], requested) and not obedience.obeys([right, wrong, wrong], requested)
    assert Counter(obedience.shows(r, requested) for r in (right, wrong)) == {True: 1, False: 1}
