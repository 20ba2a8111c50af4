"""Chunk keys stay what they are: a store of any version is found again."""

import json

import pytest

from longlive_core.takes.keys import shots_of
from longlive_core.takes.take import same_chunks
from longlive_core.timeline import NewSegment, TimelineError, with_segments

from .key_plans import FILE, FILMS, summary

KNOWN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", FILMS)
def test_no_key_ever_changes(name):
    """Forbids another name for a chunk that users have rendered: it would be rendered again."""
    assert summary(shots_of(*FILMS[name])) == KNOWN[name]


@pytest.mark.parametrize("name", [name for name in FILMS if name != "an hour"])
def test_keys_that_are_known_are_not_others(name):
    """Forbids a film that is continued under other keys than those of its timeline, wherever a prompt came."""
    plan, origin, given = FILMS[name]
    known = shots_of(*FILMS[name])
    for chunk in range(1, plan.chunks):
        for transition in ("recache", "cut"):
            try:
                changed = with_segments(plan, [NewSegment(chunk, "A prompt.", transition)])
            except TimelineError:  # inside a blend
                continue
            assert same_chunks(plan, changed) == chunk or plan.segment_at(chunk).start_chunk == chunk
            fresh = shots_of(changed, origin, given)
            assert shots_of(changed, origin, given, known, same_chunks(plan, changed)) == fresh
            assert shots_of(plan, origin, given, fresh, same_chunks(changed, plan)) == known
