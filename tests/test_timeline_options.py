"""Options at a prompt's end, what a rollout meets, and plans in exact chunks: written, resized, with a new segment."""

import json
import subprocess
import sys

import pytest

from longlive_core import noise
from longlive_core.timeline import PlannedPrompt, Time, options, parse
from tests.test_timeline import entry, fail, scope

# --- Options


@pytest.mark.parametrize(
    ("written", "transition", "seed", "blend"),
    [
        ("{seed=7}", "recache", 7, None),
        ("{ SEED = 007 }", "recache", 7, None),
        ("{seed=18446744073709551615}", "recache", 2**64 - 1, None),
        ("{keep, seed=0}", "keep", 0, None),
        ("{seed=7}{cut}", "cut", 7, None),
        ("{blend=2s}", "recache", None, Time(seconds=2)),
        ("{blend=0:02.5} {seed=7}", "recache", 7, Time(seconds=2.5)),
        ("{recache, blend=3c}", "recache", None, Time(chunk=3)),
        ("{blend=3C, recache}", "recache", None, Time(chunk=3)),
    ],
)
def test_options_in_every_form(written, transition, seed, blend):
    """Forbids an option that one form drops, that stays in the prompt, or that is lost when the script is written."""
    for text in (
        f"0s a\n5s b {written}",
        f"[0s-5s: a][5s-10s: b {written}]",
        f"[0s-5s: a][5s-10s: b] {written}",
        f"a | b {written}",
        json.dumps({"prompts": ["a", f"b{written}"]}),
        scope(entry(0, 5, ("a", 100)), entry(5, 10, (f"b {written}", 100))),
    ):
        for script in (parse(text), parse(parse(text).to_text())):
            first, second = script.segments
            assert (first.text, first.transition, first.seed, first.blend) == ("a", "recache", None, None)
            assert (second.text, second.transition, second.seed, second.blend) == ("b", transition, seed, blend)


def test_the_largest_seed_is_the_noise_s():
    """Forbids a seed that the timeline allows and the noise refuses; the timeline has its own copy of the number."""
    assert options.MAX_SEED == noise.MAX_SEED


def test_a_timeline_is_read_without_torch():
    """Forbids seconds of importing PyTorch to check a text."""
    code = "import longlive_core.timeline, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_first_segment_may_have_a_seed():
    """Forbids treating a seed as a way to get from one segment to the next."""
    plan = parse("0s a {seed=3}\n5s b").plan(10)
    assert [segment.seed for segment in plan.segments] == [3, None]


@pytest.mark.parametrize(
    ("blend", "fps", "chunk", "chunks"),
    [
        ("2s", 16, 3, 3),
        ("0.1s", 16, 3, 1),
        ("1.125s", 16, 3, 2),  # halfway between one and two
        ("1.12s", 16, 3, 1),
        ("2s", 24, 3, 4),
        ("2s", 16, 1, 8),
        ("3c", 24, 1, 3),
    ],
)
def test_a_blend_becomes_whole_chunks(blend, fps, chunk, chunks):
    """Forbids a blend of no chunks, one that ignores the clock, and rounding halves to even."""
    plan = parse(f"0s a\n5s b {{blend={blend}}}").plan(20, fps, chunk)
    assert [segment.blend for segment in plan.segments] == [0, chunks]


MISTAKES = [
    ("0s a\n5s b {kep}", 2, 7, "did you mean {keep}"),
    ("0s a\n5s b {sed=7}", 2, 7, "did you mean {seed=7}"),
    ("0s a\n5s b {seed 7}", 2, 7, "did you mean {seed=7}"),
    ("0s a\n5s b {blnd=2s}", 2, 7, "did you mean {blend=2s}"),
    ("0s a\n5s b {fade}", 2, 7, "unknown option {fade}; options at the end of a prompt are {recache}"),
    ("0s a\n5s b {}", 2, 6, "empty braces"),
    ("0s a\n5s b {keep=1}", 2, 7, "takes no value"),
    ("0s a\n5s b {keep} {cut}", 2, 14, "contradicts {keep}"),
    ("0s a\n5s b {keep,keep}", 2, 12, "given twice"),
    ("0s a\n5s b {keep", 2, 6, "no closing brace"),
    ("0s a\n5s b keep}", 2, 10, "without its '{'"),
    ("0s a {cut}", 1, 1, "nothing before it"),
    ("0s a\n5s b {seed}", 2, 7, "{seed} has no value; write {seed=7}"),
    ("0s a\n5s b {keep, seed=}", 2, 13, "has no value"),
    ("0s a\n5s b {seed=x}", 2, 7, "no whole number"),
    ("0s a\n5s b {seed=1.5}", 2, 7, "no whole number"),
    ("0s a\n5s b {seed=\u0663}", 2, 7, "no whole number"),
    ("0s a\n5s b {seed=1,000}", 2, 14, "unknown option {000}"),
    ("0s a\n5s b {seed=-1}", 2, 7, "out of range; seeds go from 0 to 18446744073709551615"),
    ("0s a\n5s b {seed=18446744073709551616}", 2, 7, "out of range"),
    ("0s a\n5s b {seed=" + "9" * 5000 + "}", 2, 7, "out of range"),
    ("0s a\n5s b {seed=7} {seed=7}", 2, 16, "given twice; a segment has one seed"),
    ("0s a\n5s b {blend}", 2, 7, "{blend} has no value; write {blend=2s}"),
    ("0s a\n5s b {blend=}", 2, 7, "has no value"),
    ("0s a\n5s b {blend=2}", 2, 7, "cannot last '2'"),
    ("0s a\n5s b {blend=slow}", 2, 7, "cannot last 'slow'"),
    ("0s a\n5s b {blend=-2s}", 2, 7, "write a time above 0"),
    ("0s a\n5s b {blend=0s}", 2, 7, "write a time above 0"),
    ("0s a\n5s b {blend=0c}", 2, 7, "write a time above 0"),
    ("0s a\n5s b {blend=1s, blend=2s}", 2, 17, "given twice; a segment has one blend"),
    ("0s a\n5s b {keep, blend=1s}", 2, 13, "{keep} and {blend=1s} contradict each other"),
    ("0s a\n5s b {blend=1s} {cut}", 2, 18, "{cut} and {blend=1s} contradict each other"),
    ("0s a {blend=1s}\n5s b", 1, 1, "nothing before it, so {blend=1s} has no meaning there"),
    ('{"prompts": ["a", "b {seed=x}"]}', 1, 22, "no whole number"),
    ("0s a\n5c b {blend=3c}\n8c c", 2, 1, "the blend lasts 3 chunks, but its segment only 3 chunks"),
    ("0s a\n20s b {blend=1:00}\n24s c", 2, 1, "the blend lasts 80 chunks, but its segment only 5 chunks"),
    ("0s a\n20s b {blend=15s}", 2, 1, "the blend lasts 20 chunks, but its segment only 14 chunks"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), MISTAKES)
def test_mistakes_in_options_name_their_place(text, line, column, words):
    """Forbids an option that is ignored or guessed, and a message that sends the user to a wrong place."""
    error = fail(text)
    assert words in str(error)
    assert (error.line, error.column) == (line, column)
    assert len(str(error)) < 400


def test_options_inside_the_text_get_a_note():
    """Forbids silence about an option that is read as text because a full stop stands behind it."""
    for option in ("{cut}", "{ seed = 7 }", "{blend=2s}"):
        (hint,) = parse(f"0s a cat\n5s a cat {option}.").plan(10).hints
        assert f"{option} stands inside the prompt" in hint
    assert not parse("0s a {seed} and {a blend} of {cuts}.").plan(10).hints


def test_description_shows_seed_and_blend():
    """Forbids a plan that hides what was asked for."""
    shown = parse("0s a {seed=3}\n12s a b {blend=2s, seed=4}").plan(20).describe().splitlines()
    assert "(seed 3)" in shown[1] and "blend" not in shown[1]
    assert "(asked 12.00 s) (seed 4) (blend of 3 chunks)" in shown[2]


# --- What the rollout meets


def test_plain_segments_are_one_prompt_each():
    """Forbids a rollout that misses a transition, a seed, or the anchor."""
    plan = parse("* In snow.\n0c a {seed=3}\n4c b {keep}\n9c a {cut, seed=5}").plan(None)
    assert plan.prompts == (
        PlannedPrompt(0, (("In snow. a", 1.0),), "recache", 3),
        PlannedPrompt(4, (("In snow. b", 1.0),), "keep", None),
        PlannedPrompt(9, (("In snow. a", 1.0),), "cut", 5),
    )
    assert plan.texts == ("In snow. a", "In snow. b")


def test_a_blend_is_a_prompt_for_each_of_its_chunks():
    """Forbids a blend that begins with the old prompt alone, ends before the new one, or weighs them the wrong way."""
    plan = parse("0c a\n4c b {blend=3c, seed=9}\n9c c").plan(None)
    assert plan.prompts == (
        PlannedPrompt(0, (("a", 1.0),), "recache", None),
        PlannedPrompt(4, (("a", 0.75), ("b", 0.25)), "recache", 9),
        PlannedPrompt(5, (("a", 0.5), ("b", 0.5)), "recache", 9),
        PlannedPrompt(6, (("a", 0.25), ("b", 0.75)), "recache", 9),
        PlannedPrompt(7, (("b", 1.0),), "recache", 9),
        PlannedPrompt(9, (("c", 1.0),), "recache", None),
    )
