"""Intervals: they hold the mean as often as they say, are the same on every run, and use the pairs."""

import numpy as np
import pytest

from longlive_core.eval import bootstrap_difference, bootstrap_mean


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    """Forbids intervals too narrow or too wide: of the median, of single values, or of one tail."""
    rng = np.random.default_rng(0)
    intervals = [bootstrap_mean(rng.normal(2.0, 1.0, 40), resamples=500) for _ in range(300)]
    held = np.mean([interval.low <= 2.0 <= interval.high for interval in intervals])
    assert 0.9 <= held <= 0.98
    assert np.mean([interval.low > 2.0 for interval in intervals]) < 0.06
    narrow = bootstrap_mean(rng.normal(2.0, 1.0, 40), level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 / 40**0.5, rel=0.4)


def test_the_same_values_have_the_same_interval():
    """Forbids tables that change when they are printed again."""
    values = list(np.random.default_rng(2).normal(size=20))
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)
    assert str(bootstrap_mean([1.0, 1.0])) == "1.000 [1.000, 1.000]"


def test_a_paired_difference_does_not_count_what_pairs_share():
    """Forbids resampling the two sides each by itself: prompts differ more than settings do."""
    before = np.random.default_rng(1).normal(0, 10, 30)
    gain = bootstrap_difference(before, before + 0.5)
    assert gain.mean == pytest.approx(0.5) and gain.low == pytest.approx(0.5) and gain.high == pytest.approx(0.5)


def test_many_values_are_drawn_in_parts():
    """Forbids memory of resamples times values."""
    interval = bootstrap_mean(np.arange(1000.0), resamples=9000)
    assert interval.low < 499.5 < interval.high and interval.count == 1000


@pytest.mark.parametrize(
    ("values", "named", "words"),
    [
        ([1.0], {}, "at least two values"),
        ([], {}, "at least two"),
        ([1.0, float("nan")], {}, "value 1 is nan"),
        ([1.0, 2.0], {"level": 1.0}, "level 1.0"),
        ([1.0, 2.0], {"resamples": 0}, "resamples 0"),
    ],
)
def test_what_has_no_interval_is_refused(values, named, words):
    """Forbids an interval of width 0 for a single film, and NaN in a table."""
    with pytest.raises(ValueError, match=words):
        bootstrap_mean(values, **named)
    with pytest.raises(ValueError, match="do not make pairs"):
        bootstrap_difference([1.0, 2.0], [1.0])
