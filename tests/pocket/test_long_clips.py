"""Windows out of long films: what the stage `tune` trains on, and which chunks of the model's own film it believes."""

import numpy as np
import pytest
import torch

from longlive_core.pocket import tune
from longlive_core.pocket.curriculum import PLACES, STARTS_SHARE
from longlive_core.pocket.long_clip_pool import LONG, PATTERNS, LongClip, window
from longlive_core.toybox.world import COLOURS, Attributes
from longlive_core.train.causal_start.teacher_forcing import LAST_SLOT

LOOKS = [Attributes(colour, "ball", "rest", "sea") for colour in list(COLOURS)[:3]]


def _clip(switches) -> LongClip:
    """A film whose chunk i holds i everywhere."""
    numbers = torch.arange(LONG).repeat_interleave(3).half()
    script = list(zip((0, *switches), LOOKS, strict=False))
    return LongClip(numbers[None, :, None, None].expand(2, -1, 4, 4), torch.ones(3 * LONG, 4, 4).half(), script)


@pytest.mark.parametrize("switches", sorted(set(PATTERNS)))
def test_windows_hold_one_prompt_and_the_context_a_rollout_has(switches):
    """Forbids noisy chunks of another prompt than they are asked for, and a sink under a prompt it never had."""
    clip, seen = _clip(switches), set()
    for place in PLACES:
        for start, asked_at in place.spots(clip):
            cut, plan = window(clip, start, place.plan.chunks, asked_at), place.plan
            numbers = cut.latents[0, ::3, 0, 0].int().tolist()
            assert numbers == [0, *range(start, start + plan.chunks - 1)] and numbers[-1] < LONG
            noisy = {clip.asked(numbers[chunk]) for chunk in plan.noisy}
            assert noisy == {cut.after} == {clip.asked(asked_at)}
            if plan.switch:
                assert numbers[plan.switch] in switches and cut.previous == clip.asked(numbers[plan.switch] - 1)
            if plan.held:  # the sink's prompt is the newest one that came while the window held the film's start
                came = [look for first, look in clip.script if first <= min(LAST_SLOT + 1, numbers[plan.noisy.start])]
                assert cut.before == came[-1]
            seen.add(place.name)
    assert "late" in seen if any(switch > LAST_SLOT + 1 for switch in switches) else "late" not in seen
    assert "deep" in seen


def test_the_shares_of_the_places_are_shares():
    """Forbids a probability below zero for steps on first chunks."""
    assert 0 < STARTS_SHARE < 1


class _Painter(tune.LongForcing):
    """Films without a model."""

    def __init__(self, recipe):
        self.recipe, self.rng, self.generator = recipe, np.random.default_rng(0), torch.Generator().manual_seed(0)


def test_only_own_chunks_near_the_truth_are_context():
    """Forbids going on from a chunk that lost the subject, whose true continuation would be a jump."""
    cut = window(_clip(()), 1, 6, 0)
    cut.guesses = cut.latents[:, :15] + 0.01
    cut.guesses[:, 6:9] += 2.0
    cut.weight[9:12] = 0.0  # no subject in sight: nothing to be wrong about
    painter, plan = _Painter(tune.TuneRecipe(context_noise=0.0)), PLACES[0].plan
    assert painter._near(cut) == [True, True, False, True, True]
    clean = painter._context([cut], cut.latents[None].float(), plan, step=0)[0, 0, :, 0, 0]
    expected = cut.guesses[0, :, 0, 0].float()
    expected[6:9] = cut.latents[0, 6:9, 0, 0].float()
    assert torch.equal(clean, expected)
