"""Chunk keys stay what they are: a store of any version is found again."""

import json

import pytest

from longlive_core.takes.keys import shots_of

from .key_plans import FILE, FILMS, summary

KNOWN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", FILMS)
def test_no_key_ever_changes(name):
    """Forbids another name for a chunk that somebody has rendered: it would be rendered again."""
    assert summary(shots_of(*FILMS[name])) == KNOWN[name]
