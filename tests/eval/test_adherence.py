"""The judge's measures: near 1 on the toybox's own films, at chance on other captions, and each sees its own fault."""

import numpy as np
import pytest

from longlive_core.eval import FilmSegment, evaluate_toybox
from longlive_core.eval.adherence import Expected, ToyboxMeter, _consistency, expected_of
from longlive_core.toybox import world
from longlive_core.toybox.captions import caption
from longlive_core.toybox.judge import Sight
from longlive_core.toybox.jumps import largest_jump, longest_unseen
from longlive_core.toybox.world import Attributes, changed_attributes, film, random_attributes

pytestmark = pytest.mark.slow

SWITCH, FRAMES = 69, 165  # the second segment has two windows after it has settled
BALL = Attributes("red", "ball", "rest", "sea")


@pytest.fixture(scope="module")
def scripts():
    rng = np.random.default_rng(3)
    firsts = [random_attributes(rng) for _ in range(4)]
    return [[(0, first), (SWITCH, changed_attributes(first, rng))] for first in firsts]


@pytest.fixture(scope="module")
def truth(scripts):
    return [film(script, FRAMES, seed)[0] for seed, script in enumerate(scripts)]


def test_the_toyboxs_own_films_do_what_was_requested(scripts, truth):
    """Forbids measures that find faults in perfect films: then no number below 1 would mean anything."""
    scores = [evaluate_toybox(frames, script) for frames, script in zip(truth, scripts, strict=True)]
    assert np.mean([score.adherence for score in scores]) >= 0.95
    assert np.mean([score.subject_as_asked for score in scores]) >= 0.95
    assert np.mean([score.subject_consistency for score in scores]) >= 0.95
    assert np.mean([score.background_consistency for score in scores]) >= 0.95
    assert max(score.ground_error for score in scores) < 1
    assert all(score.smooth == 1 for score in scores)
    assert [segment.windows for segment in scores[0].segments] == [1, 1]


def test_other_films_captions_are_not_shown(scripts, truth):
    """Forbids an adherence that is high for any request."""
    scores = [
        evaluate_toybox(frames, script, stride=8)
        for frames, script in zip(truth, scripts[1:] + scripts[:1], strict=True)
    ]
    assert np.mean([score.adherence for score in scores]) <= 0.1


def test_a_subject_that_turns_into_another_is_seen(truth):
    """Forbids a consistency that compares neighbours only: a change for good would be one fault among many sights."""
    star = Attributes("red", "star", "rest", "sea")
    frames = film([(0, BALL), (72, star)], 144)[0]
    score = evaluate_toybox(frames, [(0, BALL)])
    assert score.subject_consistency == pytest.approx(0.75, abs=0.05)  # half of the sights differ from the first
    assert score.subject_as_asked == pytest.approx(0.5, abs=0.05)
    assert score.adherence == 1 and score.background_consistency == 1  # colour, setting and action stayed
    assert score.fields["shape"] == pytest.approx(1 / 3) or score.fields["shape"] == pytest.approx(2 / 3)


def test_what_changes_with_the_prompt_changes_the_film():
    """Forbids a consistency of the whole film that begins anew at every prompt, and so cannot see a switch."""
    star = Attributes("red", "star", "rest", "sea")
    score = evaluate_toybox(film([(0, BALL), (72, star)], 168)[0], [(0, BALL), (72, star)])
    assert score.subject_consistency > 0.95
    assert score.film_subject_consistency == pytest.approx(0.75, abs=0.03)  # half of the sights differ from the first
    assert score.film_background_consistency == 1


def test_a_ground_that_changes_is_seen():
    """Forbids a background consistency that looks at the subject, and a ground error without a unit."""
    frames = film([(0, BALL), (48, Attributes("red", "ball", "rest", "desert"))], 96)[0]
    score = evaluate_toybox(frames, [(0, BALL)])
    assert score.background_consistency == pytest.approx(0.75, abs=0.05)
    assert score.subject_consistency > 0.95
    darker = evaluate_toybox((film([(0, BALL)], 48)[0].astype(int) - 10).clip(0).astype(np.uint8), [(0, BALL)])
    assert darker.ground_error == pytest.approx(10, abs=0.5)


def test_consistency_is_vbenchs_mean_of_first_and_before():
    """Forbids another formula than the one that is documented."""
    assert _consistency(["a", "a", "b", "a"], "a") == pytest.approx((1 + 0 + 0.5) / 3)
    assert _consistency(["a"], "a") is None


def test_a_teleport_at_the_switch_is_seen():
    """Forbids a continuity that a subject placed anew passes."""
    right = Attributes("red", "ball", "right", "sea")
    whole = film([(0, right), (60, BALL)], 140)[0]
    other = film([(0, BALL)], 140)[0]
    score = evaluate_toybox(np.concatenate([whole[:60], other[60:]]), [(0, right), (60, BALL)])
    assert score.smooth == 0 and score.switches[0].jump > 8
    assert evaluate_toybox(whole, [(0, right), (60, BALL)]).smooth == 1


def _sights(*places):
    """The judge's of a subject at these (x, y); None: no subject, placed at random."""
    return [
        Sight("sea", "red", "ball", *place, 0.0, 1.0, 1.0)
        if place
        else Sight("sea", None, None, 99.0, 9.0, 0.0, 1.0, 0.1)
        for place in places
    ]


@pytest.mark.parametrize(
    ("places", "jump"),
    [
        ([(20, 40), (22, 40), (24, 40)], 2),
        ([(126, 40), (2, 40)], 4),  # over the picture's edge
        ([(20, 40), None, None, (26, 40), (28, 40)], 2),  # a fade: three frames' way
        ([(20, 40), None, (60, 40), (62, 40)], 36),  # gone, and elsewhere
        ([(20, 40), (22, 40), (90, 40), (26, 40), (28, 40)], 4),  # one frame misread: two frames' way
        ([(20, 40), (22, 40), (60, 40), (62, 40)], 38),
        ([(20, 40), None], None),
    ],
)
def test_a_step_is_the_subjects_not_the_judges(places, jump):
    """Forbids jumps where no subject can be seen or one frame is misread, as in the fades of perfect films; and
    forbids that a jump hides behind such frames."""
    assert largest_jump(_sights(*places)) == jump


def test_a_subject_gone_around_the_switch_is_not_smooth():
    """Forbids passing a subject that vanishes for most of a second, because its place before and after agrees."""
    whole = film([(0, BALL)], 108)[0]
    bare = whole.copy()
    bare[58:68] = np.tile(world.SETTINGS["sea"], (5, 8, 1)).round()
    assert longest_unseen(_sights((20, 40), None, None, (20, 40), None)) == 2
    switch = evaluate_toybox(bare, [(0, BALL), (60, BALL)]).switches[0]
    assert switch.unseen == 10 and switch.jump == 0 and not switch.smooth
    assert evaluate_toybox(whole, [(0, BALL), (60, BALL)]).switches[0].smooth


@pytest.mark.parametrize(("transition", "adherence"), [("recache", 1.0), ("cut", 0.0)])
def test_a_switch_has_time_to_settle_and_a_cut_has_not(transition, adherence):
    """Forbids blaming a prompt for what was there before it, and excusing a new shot that begins with the old one."""
    meter = ToyboxMeter([Expected(0, BALL), Expected(4, Attributes("red", "ball", "rest", "night"), transition)])
    one, two = film([(0, BALL)], 76)[0], film([(0, Attributes("red", "ball", "rest", "night"))], 76)[0]
    shown = np.concatenate([one[:28] if transition == "recache" else one[:52], two])[:76]
    for index, frame in enumerate(shown):
        meter.see(index, frame)
    score = meter.result()
    assert score.adherence == adherence
    assert score.smooth == (None if transition == "cut" else 1)


def test_a_film_that_ends_early_is_judged_as_far_as_it_goes():
    """Forbids scores of segments that are not in the film."""
    score = evaluate_toybox(film([(0, BALL)], 60)[0], [(0, BALL), (200, BALL)])
    assert score.adherence == 1 and score.segments[1].adherence is None and score.switches == ()


@pytest.mark.parametrize(
    ("frames", "segments", "stride", "words"),
    [
        (np.zeros((60, 80, 128, 3), np.uint8), [(0, BALL)], 5, "stride is 5; it must be one of 1, 2, 4, 8"),
        (np.zeros((60, 80, 120, 3), np.uint8), [(0, BALL)], 4, "128 x 80 pixels, got uint8 of shape"),
        (np.zeros((60, 80, 128, 3), np.float32), [(0, BALL)], 4, "got float32"),
        (np.zeros((3, 80, 128, 3), np.uint8), [(0, BALL)], 4, r"\(3 frames\) is too short to judge"),
        (np.zeros((3, 80, 128, 3), np.uint8), [(5, BALL)], 4, "the first must be 0"),
    ],
)
def test_what_cannot_be_judged_is_reported(frames, segments, stride, words):
    """Forbids numbers for films that the judge cannot read."""
    with pytest.raises(ValueError, match=words):
        evaluate_toybox(frames, segments, stride)


def test_prompts_of_other_films_are_refused():
    """Forbids judging a film by words that the toybox has not; and losing what the tags say of a segment."""
    segments = [FilmSegment(0, caption(BALL)), FilmSegment(9, "A panda walks on a meadow")]
    with pytest.raises(ValueError, match="segment 2 cannot be judged as a toybox film: no action"):
        expected_of(segments)
    assert expected_of([FilmSegment(0, caption(BALL)), FilmSegment(9, caption(BALL), "cut", 24)])[1] == Expected(
        9, BALL, "cut", 24
    )
