"""Drift: almost none on the toybox's own films; fading, blur, freezing and greying each show in their own measure."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from longlive_core.eval import evaluate_drift
from longlive_core.eval.continuity import jumps
from longlive_core.toybox.world import ACTIONS, Attributes, film

FRAMES = 144  # three windows
LOOK = Attributes("red", "star", "right", "sea")


@pytest.fixture(scope="module")
def truth():
    return film([(0, LOOK)], FRAMES, 3)[0]


def _over_time(frames, change):
    """A film that is itself at its first frame and `change(frame)` at its last."""
    amounts = np.linspace(0, 1, len(frames))
    mixed = [(1 - amount) * frame + amount * change(frame) for amount, frame in zip(amounts, frames, strict=True)]
    return (np.stack(mixed) + 0.5).astype(np.uint8)


def _blurred(frame):
    picture = torch.from_numpy(frame).permute(2, 0, 1).float()[None]
    return F.avg_pool2d(picture, 5, 1, 2, count_include_pad=False)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("action", sorted(set(ACTIONS) - {"pulse", "rest"}))
def test_the_toyboxs_own_films_do_not_drift(action):
    """Forbids drift that is only the subject's motion; windows of 3 s hold whole periods of it."""
    drift = evaluate_drift(film([(0, Attributes("red", "star", action, "sea"))], FRAMES, 3)[0])
    for shift in (drift.sink, drift.own):
        assert shift.colour < 0.5
        for name in ("contrast", "saturation", "sharpness", "motion"):
            assert getattr(shift, name) == pytest.approx(1, abs=0.02), name


def test_a_subject_at_rest_has_no_motion_to_compare():
    """Forbids a division by nothing that reads as a number."""
    drift = evaluate_drift(film([(0, Attributes("red", "star", "rest", "sea"))], FRAMES)[0])
    assert drift.reference.motion == 0 and drift.sink.motion is None and drift.sink.sharpness == 1


def test_fading_is_seen_in_colour_and_saturation(truth):
    """Forbids a colour drift that a film turning grey passes."""
    grey = evaluate_drift(_over_time(truth, lambda frame: np.repeat(frame.mean(axis=2, keepdims=True), 3, axis=2)))
    assert grey.sink.saturation < 0.5 and grey.own.saturation < 0.6 and grey.sink.colour > 10
    bright = evaluate_drift(_over_time(truth, lambda frame: frame * 0.5 + 100))
    assert bright.sink.colour > 20 and bright.sink.contrast < 0.7


def test_blur_is_seen_in_sharpness(truth):
    """Forbids a sharpness that a film getting soft passes."""
    drift = evaluate_drift(_over_time(truth, _blurred))
    assert drift.sink.sharpness < 0.5 and drift.sink.colour < 1
    assert [window.sink.sharpness for window in drift.windows] == sorted(
        (window.sink.sharpness for window in drift.windows), reverse=True
    )


def test_freezing_is_seen_in_motion(truth):
    """Forbids a motion that a film standing still passes."""
    frozen = np.concatenate([truth[:60], np.repeat(truth[60:61], FRAMES - 60, axis=0)])
    drift = evaluate_drift(frozen)
    assert drift.sink.motion == 0 and drift.own.motion == 0 and drift.sink.sharpness == pytest.approx(1, abs=0.02)


def test_the_sink_is_the_first_nine_frames():
    """Forbids a reference that holds later frames, which have drifted already."""
    frames = np.full((96, 16, 16, 3), 100, np.uint8)
    frames[:9] = 130
    drift = evaluate_drift(frames)
    assert drift.reference.colour == (130, 130, 130)
    assert drift.sink.colour == pytest.approx(30 * 3**0.5)


def test_a_new_setting_is_no_drift_of_its_segment():
    """Forbids counting a requested change as drift."""
    script = [(0, LOOK), (69, Attributes("red", "star", "right", "night"))]
    drift = evaluate_drift(film(script, 69 + 24 + 96)[0], [0, 69])
    assert drift.sink.colour > 50 and drift.own.colour < 0.5
    assert [(window.start, window.segment) for window in drift.windows] == [(0, 0), (93, 1), (141, 1)]


def test_motion_of_a_window_is_not_the_step_into_it():
    """Forbids a motion that a hard cut at a window's edge raises."""
    frames = np.zeros((96, 16, 16, 3), np.uint8)
    frames[48:] = 200
    frames[:, 0, 0] = (np.arange(96) % 2 * 100)[:, None]
    drift = evaluate_drift(frames)
    assert drift.windows[1].look.motion == pytest.approx(drift.windows[0].look.motion)


def test_a_teleport_is_a_larger_change_than_usual():
    """Forbids a continuity in pixels that a jump at the switch passes, or that a change of action fails."""
    script = [(0, LOOK), (69, Attributes("red", "star", "left", "sea"))]
    whole = film(script, 189)[0]
    (calm,) = evaluate_drift(whole, [0, 69]).switches
    assert calm.ratio < 1.2
    (jump,) = evaluate_drift(np.concatenate([whole[:69], np.roll(whole[69:], 40, axis=2)]), [0, 69]).switches
    assert jump.ratio > 3


def test_jumps_compare_largest_with_largest():
    """Forbids the usual step as the measure of the largest of fifteen, which it is below everywhere."""
    steps = np.ones(100)
    steps[::15] = 2.0
    (jump,) = jumps(np.arange(1, 101), steps, [50])
    assert (jump.frame, jump.largest, jump.usual, jump.ratio) == (50, 2.0, 2.0, 1.0)
    steps[46:61] = 3.0  # the pair (46, 47) is the first with both frames in [46, 62), (60, 61) the last
    steps[45] = steps[61] = 9.0
    assert jumps(np.arange(1, 101), steps, [50])[0].largest == 3.0
    assert jumps([1], [1.0], [50])[0].largest is None  # a switch that no step is near
    assert jumps(np.arange(1, 101), np.zeros(100), [50])[0].ratio is None


@pytest.mark.parametrize(
    ("frames", "starts", "words"),
    [
        (20, [0], "has 20 frames, too few"),
        (60, [0, 0], "they must increase"),
        (60, [3], "first must be 0"),
        (60, [0, 10, 40], "no segment of the film is long enough"),
    ],
)
def test_films_without_a_window_are_refused(frames, starts, words):
    """Forbids drift of nothing, and starts that do not cover the film."""
    pictures = np.zeros((frames, 16, 16, 3), np.uint8)
    with pytest.raises(ValueError, match=words):
        evaluate_drift(pictures, starts)
