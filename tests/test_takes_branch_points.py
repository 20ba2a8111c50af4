"""Where a take is left: times, segments, chunks."""

import pytest

from longlive_core.takes import check_branch_point, find_branch_point

from .made_takes import manifest

STORY = "0s A red ball bounces\n4s A blue ball bounces {cut}\n8s A blue star rests"
TAKE = manifest(1, STORY, 12)  # of chunks 0-5, then a cut, 6-10, and 11-16


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("2s", 3),
        ("0:02", 3),
        ("0:02.0", 3),
        (" 2 s ", 3),
        ("0.1s", 1),
        ("3.56s", 5),
        ("4s", 6),
        ("16c", 16),
        ("5 chunks", 5),
        ("1c", 1),
        ("7", 7),
        ("segment 2", 6),
        ("Segment 3", 11),
        ("prompt 2", 6),
        ("segment #2", 6),
    ],
)
def test_places(text, chunks):
    """Forbids a branch elsewhere than at the chunk boundary that is nearest to what was written."""
    check_branch_point(text)
    place = find_branch_point(TAKE, text)
    assert place.chunks == chunks
    assert place.seconds == TAKE.frames(chunks) / 16


def test_a_time_tells_what_was_requested():
    """Forbids a snapped time that looks like the one that was requested."""
    place = find_branch_point(TAKE, "2s")
    assert (place.requested, place.seconds) == (2.0, 33 / 16)
    assert find_branch_point(TAKE, "3c").requested is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not name a point in a take"),
        ("half", "'half' does not name a point in a take: give a time such as 12s or 0:12"),
        ("12:75", "does not name a point"),
        ("-2s", "does not name a point"),
        ("segment", "does not name a point"),
        ("2 s 3 s", "does not name a point"),
        ("0s", "after its start"),
        ("0c", "allowed are 1 to 17"),
        ("18c", "the take has 17 chunks"),
        ("18", "17 chunks"),
        ("13s", "the take lasts 12.38 s"),
        ("segment 1", "allowed are 2 to 3"),
        ("segment 4", "allowed are 2 to 3"),
    ],
)
def test_what_names_no_branch_point(text, words):
    """Forbids a branch that was not requested, and a message without what is allowed."""
    with pytest.raises(ValueError, match="(?s)" + words.replace("(", r"\(")):
        find_branch_point(TAKE, text)


def test_a_take_that_is_not_whole():
    """Forbids a branch after chunks that are not there."""
    assert find_branch_point(TAKE, "segment 2", 6).chunks == 6
    with pytest.raises(ValueError, match="the take lasts 4.31 s"):
        find_branch_point(TAKE, "5s", 6)
    with pytest.raises(ValueError, match="segment 3 begins after chunk 11; the take has 6 chunks so far"):
        find_branch_point(TAKE, "segment 3", 6)
    with pytest.raises(ValueError, match="the take has 1 chunk, so allowed are 1 to 1"):
        find_branch_point(TAKE, "2c", 1)


def test_one_prompt_has_no_second():
    """Forbids advice to choose a segment if there is none to choose."""
    with pytest.raises(ValueError, match="the take has one prompt: give a time or chunks"):
        find_branch_point(manifest(2, "A red ball", 4), "segment 2")


def test_frames_count_shot_by_shot():
    """Forbids a clock that forgets the cut: each shot begins with a chunk of 9 frames."""
    assert [TAKE.frames(chunks) for chunks in (0, 1, 6, 7, 8, 17)] == [0, 9, 69, 78, 90, 198]
