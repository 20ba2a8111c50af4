"""Excerpts of long films: what the stage `tune` trains on, and which of the model's own chunks serve as context."""

import pytest
import torch

from longlive_core.pocket.curriculum import EXCERPT_KINDS, STARTS_SHARE
from longlive_core.pocket.film_pool import FILM_CHUNKS, PATTERNS, PoolFilm, excerpt
from longlive_core.pocket.own_films import near_chunks, own_context
from longlive_core.pocket.training import Draws
from longlive_core.toybox.world import COLOURS, Attributes
from longlive_core.train.causal_start.teacher_forcing import LAST_SLOT

LOOKS = [Attributes(colour, "ball", "rest", "sea") for colour in list(COLOURS)[:3]]


def _film(switches) -> PoolFilm:
    """A film whose chunk i holds i everywhere."""
    numbers = torch.arange(FILM_CHUNKS).repeat_interleave(3).half()
    script = list(zip((0, *switches), LOOKS, strict=False))
    return PoolFilm(numbers[None, :, None, None].expand(2, -1, 4, 4), torch.ones(3 * FILM_CHUNKS, 4, 4).half(), script)


@pytest.mark.parametrize("switches", sorted(set(PATTERNS)))
def test_excerpts_hold_one_prompt_and_the_context_a_rollout_has(switches):
    """Forbids noisy chunks of another prompt than they are trained under, and a sink under a prompt it never had."""
    film, seen = _film(switches), set()
    for kind in EXCERPT_KINDS:
        for start, prompt_chunk in kind.spots(film):
            cut, layout = excerpt(film, start, kind.layout.chunks, prompt_chunk), kind.layout
            numbers = cut.latents[0, ::3, 0, 0].int().tolist()
            assert numbers == [0, *range(start, start + layout.chunks - 1)] and numbers[-1] < FILM_CHUNKS
            noisy = {film.requested(numbers[chunk]) for chunk in layout.noisy}
            assert noisy == {cut.after} == {film.requested(prompt_chunk)}
            if layout.switch:
                assert numbers[layout.switch] in switches and cut.previous == film.requested(numbers[layout.switch] - 1)
            if layout.held:  # the sink's prompt is the newest one that came while the window held the film's start
                came = [look for first, look in film.script if first <= min(LAST_SLOT + 1, numbers[layout.noisy.start])]
                assert cut.before == came[-1]
            seen.add(kind.name)
    assert "late" in seen if any(switch > LAST_SLOT + 1 for switch in switches) else "late" not in seen
    assert "deep" in seen


def test_the_shares_of_the_places_are_shares():
    """Forbids a probability below zero for steps on first chunks."""
    assert 0 < STARTS_SHARE < 1


def test_only_own_chunks_near_the_truth_are_context():
    """Forbids continuing from a chunk that lost the subject, whose true continuation would be a jump."""
    clip = excerpt(_film(()), 1, 6, 0)
    clip.own = clip.latents[:, :15] + 0.01
    clip.own[:, 6:9] += 2.0
    clip.weight[9:12] = 0.0  # no subject in sight: nothing to be wrong about
    assert near_chunks(clip, 0.8) == [True, True, False, True, True]
    clean = own_context([clip], EXCERPT_KINDS[0].layout, 0.8, 0.0, Draws(0))[0, 0, :, 0, 0]
    expected = clip.own[0, :, 0, 0].float()
    expected[6:9] = clip.latents[0, 6:9, 0, 0].float()
    assert torch.equal(clean, expected)
