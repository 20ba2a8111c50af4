"""Films, takes, reports and workflows are what they were; see README.md here."""

import json
import os

import pytest

from . import compare, record

MOST_BYTES = 200_000  # of all expectations


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if os.environ.get("LONGLIVE_GOLDEN") != "1":
        pytest.skip("renders 50 films, for code that is moved: set LONGLIVE_GOLDEN=1")
    return record.make(tmp_path_factory.mktemp("golden") / "made")


@pytest.mark.parametrize("part", record.PARTS)
def test_nothing_has_changed(made, part):
    """Forbids another name for a stored chunk or take, other pictures, tags, reports, estimates, texts, or inputs of
    nodes and workflows, that was not intended."""
    found = compare.differences(part, compare.expected(part), made[part])
    assert not found, "\n".join([*found[:40], f"({len(found)} places; see tests/golden/README.md)"])


def test_expectations_can_be_read():
    """Forbids expectations that grow too large to be reviewed."""
    assert sum(path.stat().st_size for path in record.EXPECTED.glob("*.json")) < MOST_BYTES


@pytest.mark.parametrize("part", record.PARTS)
def test_every_value_counts(part):
    """Forbids a comparison that passes over something: each expectation is changed once, and has to be missed."""
    known = compare.expected(part)
    for place in _leaves(known):
        changed = json.loads(json.dumps(known))
        _change(changed, place)
        if part == "numbers":
            assert compare.differences(part, changed, _whole(known)), place
        else:
            assert compare.differences(part, known, changed), place


def _leaves(value, place=()):
    """Some places of single values, spread evenly over all of them."""
    found = list(_all_leaves(value, place))
    return found[:: max(1, len(found) // 200)]


def _all_leaves(value, place):
    if isinstance(value, (dict, list)) and value:
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from _all_leaves(value[name], (*place, name))
    else:
        yield place


def _change(value, place):
    for name in place[:-1]:
        value = value[name]
    old = value[place[-1]]
    value[place[-1]] = old + 10 if isinstance(old, (int, float)) and not isinstance(old, bool) else [old]


def _whole(numbers):
    return {
        film: {
            name: entries[values.removeprefix(compare.AS)] if isinstance(values, str) else values
            for name, values in entries.items()
        }
        for film, entries in numbers.items()
    }
