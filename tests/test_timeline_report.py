"""What the Prompt Timeline node shows below itself."""

from longlive_core.timeline import parse, timeline_report

LONG = "A red fox with a white-tipped tail walks slowly through the deep snow of a pine forest towards the camera"


def test_timeline():
    """Forbids columns that no node is wide enough for, and a snapped time that looks like the requested one."""
    plan = parse(f"0s {LONG}\n4s A blue ball {{cut}}\n8s A star {{blend=1s, seed=4}}").plan(12)
    assert timeline_report(plan).splitlines() == [
        "12.38 s: 17 chunks, 198 frames at 16 fps",
        "0 s: A red fox with a white-tipped tail walks slowly through the deep snow of a pine…",
        "4.31 s (cut, requested 4 s): A blue ball",
        "7.88 s (requested 8 s, seed 4, blend of 1 chunk): A star",
        *(f"hint: {hint}" for hint in plan.hints),
    ]


def test_one_chunk():
    """Forbids "1 chunks"."""
    lines = timeline_report(parse("A ball").plan(0.5)).splitlines()
    assert lines[:2] == ["0.56 s: 1 chunk, 9 frames at 16 fps", "0 s: A ball"]


def test_the_anchor_is_shown_once():
    """Forbids a subject that pushes out of every line what happens there."""
    lines = timeline_report(parse("* A panda in snow.\n0s It walks\n4s It sits").plan(8)).splitlines()
    assert lines[1:4] == ["in every prompt: A panda in snow.", "0 s: It walks", "4.31 s (requested 4 s): It sits"]


def test_endless_timeline_claims_no_length():
    """Forbids "5.06 s" over a film that has no end."""
    text = timeline_report(parse("A ball").plan(5), endless=True)
    assert text.splitlines()[0] == "no end: the last prompt lasts until Finish (16 fps)"
    assert "chunk" not in text and "5.06" not in text
