"""Options at a prompt's end, what a rollout uses, and plans in exact chunks: written, resized, with a new segment."""

import json
import subprocess
import sys

import pytest

from longlive_core.engine import noise
from longlive_core.timeline import (
    NewSegment,
    PlannedPrompt,
    Time,
    TimelineError,
    options,
    parse,
    plan_text,
    script_text,
    with_segment,
)
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
        for script in (parse(text), parse(script_text(parse(text)))):
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
    ("0s a\n5s b {seed=x}", 2, 7, "not a whole number"),
    ("0s a\n5s b {seed=1.5}", 2, 7, "not a whole number"),
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
    ('{"prompts": ["a", "b {seed=x}"]}', 1, 22, "not a whole number"),
    ("0s a\n5c b {blend=3c}\n8c c", 2, 1, "the blend lasts 3 chunks, but its segment only 3 chunks"),
    ("0s a\n20s b {blend=1:00}\n24s c", 2, 1, "the blend lasts 80 chunks, but its segment only 5 chunks"),
    ("0s a\n20s b {blend=15s}", 2, 1, "the blend lasts 20 chunks, but its segment only 14 chunks"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), MISTAKES)
def test_errors_in_options_name_their_place(text, line, column, words):
    """Forbids an option that is ignored or guessed, and a message that sends the user to a wrong place."""
    error = fail(text)
    assert words in str(error)
    assert (error.line, error.column) == (line, column)
    assert len(str(error)) < 400


def test_options_inside_the_text_get_a_hint():
    """Forbids silence about an option that is read as text because a full stop follows it."""
    for option in ("{cut}", "{ seed = 7 }", "{blend=2s}"):
        (hint,) = parse(f"0s a cat\n5s a cat {option}.").plan(10).hints
        assert f"{option} is inside the prompt" in hint
    assert not parse("0s a {seed} and {a blend} of {cuts}.").plan(10).hints


def test_description_shows_seed_and_blend():
    """Forbids a plan that hides the requested time."""
    shown = parse("0s a {seed=3}\n12s a b {blend=2s, seed=4}").plan(20).describe().splitlines()
    assert "(seed 3)" in shown[1] and "blend" not in shown[1]
    assert "(requested 12.00 s) (seed 4) (blend of 3 chunks)" in shown[2]


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


# --- Exact numbers of chunks


def test_a_film_of_an_exact_number_of_chunks():
    """Forbids a film of a chunk more or less than requested, however cuts change its seconds."""
    for chunks in (7, 8, 40):
        plan = parse("0c a\n3c b {cut}\n6c c {cut}").plan(None, chunks=chunks)
        assert (plan.chunks, plan.frames) == (chunks, 33 + 33 + 12 * (chunks - 6) - 3)
    assert [s.start_chunk for s in parse("a|b|c").plan(None, chunks=10).segments] == [0, 3, 7]


@pytest.mark.parametrize("chunks", [0, -1, 1.5, True])
def test_absurd_numbers_of_chunks(chunks):
    """Forbids a film of no chunks."""
    with pytest.raises(ValueError, match="chunks is"):
        parse("a").plan(None, chunks=chunks)
    with pytest.raises(ValueError, match="chunks is"):
        parse("a").plan(10).resized(chunks)


def test_duration_and_chunks_exclude_each_other():
    """Forbids ignoring one of two lengths."""
    with pytest.raises(ValueError, match="give one of them"):
        parse("a").plan(10, chunks=10)


@pytest.mark.parametrize(
    ("text", "chunks", "words"),
    [
        ("0s a\n5c b", 5, "the segment starts with chunk 5"),
        ("0s a\n5s b", 5, "the segment starts with chunk 7"),
        ("[0c-9c: a]", 8, "the range ends at 9c"),
        ("a | b | c", 2, "and so does the one in line 1"),
        ("a", 10**400, "about 10\\^400 chunks at 16 frames per second; the most is 350000"),
        ("a", 350_001, "would have 350001 chunks"),
        ("a", 200_000, "24 hours"),
        ("[0c-99999999c: a]", None, "would have 99999999 chunks"),
        ("[0c-200000c: a]", None, "24 hours"),
        ("0c a\n5c b {blend=3c}\n8c c", 20, "the blend lasts 3 chunks"),
    ],
)
def test_chunks_are_checked_like_a_duration(text, chunks, words):
    """Forbids losing a segment that starts past the end, and films too long to be meant."""
    with pytest.raises(TimelineError, match=words):
        parse(text).plan(None, chunks=chunks)


def test_the_text_of_a_plan():
    """Forbids a text with snapped times lost, with defaults spelled out, or with the anchor in every line."""
    plan = parse("* A panda.\n0s It walks {seed=1}\n12s: | 3 of them {keep}\n0:20 It sits {blend=2s, seed=7}").plan(30)
    assert plan_text(plan).splitlines() == [
        "* A panda.",
        "0c It walks {seed=1}",
        "16c: | 3 of them {keep}",
        "27c It sits {seed=7, blend=3c}",
    ]


def test_a_prompt_that_no_line_can_hold():
    """Forbids a plan that cannot be written: '| 16:9' in a line with a time is a second segment."""
    plan = parse('* Snow.\n{"prompts": ["a [wide shot | 16:9", "b", "c {cut}"]}').plan(30, 29.97)
    again = parse(plan_text(plan))
    assert again.notation == "scope"
    assert again.plan(None, 29.97, chunks=plan.chunks).prompts == plan.prompts


def test_resizing_counts_frames_from_the_last_cut_that_stays():
    """Forbids a length that counts a cut which is no longer there, or forgets one that is."""
    plan = parse("0c a\n4c b {cut}\n8c c\n12c d {cut}").plan(None, chunks=16)
    assert [plan.resized(chunks).frames for chunks in (3, 4, 5, 9, 12, 13, 20)] == [33, 45, 54, 102, 138, 147, 231]
    assert [segment.chunks for segment in plan.resized(9).segments] == [4, 4, 1]
    assert plan.resized(20).resized(16) == plan


def test_a_shortened_film_may_end_inside_a_blend():
    """Forbids other weights at the beginning of a blend because its end is not in the film."""
    plan = parse("0c a\n4c b {blend=3c}").plan(None, chunks=10)
    assert plan.resized(6).prompts == plan.prompts[:3]
    assert plan.resized(7).prompts == plan.prompts[:4]
    assert with_segment(plan.resized(6), NewSegment(2, "c")).segments[-1].blend == 3


# --- A segment put into a plan

FILM = "* Snow.\n0c a {seed=1}\n4c b {cut}\n12c c {blend=3c, seed=2}"


def put(chunk, text, **options):
    return with_segment(parse(FILM).plan(None, chunks=20), NewSegment(chunk, text, **options))


def test_a_segment_between_others():
    """Forbids moving, losing or renaming other segments, and a new one without the anchor or its options."""
    plan = put(6, " d ", transition="keep", seed=5)
    assert [(s.start_chunk, s.chunks, s.text, s.transition, s.seed, s.blend, s.line) for s in plan.segments] == [
        (0, 4, "Snow. a", "recache", 1, 0, 2),
        (4, 2, "Snow. b", "cut", None, 0, 3),
        (6, 6, "Snow. d", "keep", 5, 0, 4),
        (12, 8, "Snow. c", "recache", 2, 3, 5),
    ]
    assert plan.prompts[3].mix == (("Snow. d", 0.75), ("Snow. c", 0.25))
    assert (plan.chunks, plan.frames) == (20, 45 + 12 * 16 - 3)
    cut = put(6, "d {cut}")
    assert (cut.chunks, cut.frames) == (20, 45 + 21 + 12 * 14 - 3)


def test_a_segment_in_place_of_another():
    """Forbids two segments at one chunk, and options of the replaced one that remain."""
    assert put(4, "d").segments[1].transition == "recache"
    assert put(0, "d").prompts[0] == PlannedPrompt(0, (("Snow. d", 1.0),), "recache", None)
    assert put(12, "d {blend=2c}", seed=6).segments[2].blend == 2
    assert len(put(12, "d", blend=4).segments) == 3


@pytest.mark.parametrize(
    ("chunk", "text", "more", "words"),
    [
        (6, "", {}, "no text"),
        (6, " {keep} ", {}, "no text"),
        (6, "d\ne", {}, "one line"),
        (6, "d\n9c e", {}, "one line"),
        (6, "d\r* e", {}, "one line"),
        (6, "d | 9c e", {}, "second segment"),
        (6, "d {kep}", {}, "did you mean {keep}"),
        (6, "d {keep}", {"transition": "cut"}, "contradicts"),
        (6, "d", {"transition": "fade"}, "unknown option {fade}"),
        (6, "d", {"transition": "keep", "blend": 1}, "contradict each other"),
        (6, "d", {"seed": -1}, "out of range"),
        (6, "d {seed=3}", {"seed": 3}, "given twice"),
        (6, "d", {"blend": -1}, "cannot last"),
        (6, "d", {"blend": 6}, "the blend lasts 6 chunks"),
        (19, "d", {"blend": 1}, "the blend lasts 1 chunk, but its segment only 1 chunk"),
        (14, "d", {}, "line 4, column 1: the blend lasts 3 chunks, but its segment only 2"),
        (0, "d", {"transition": "keep"}, "nothing before it"),
        (0, "d", {"blend": 1}, "nothing before it"),
        (20, "d", {}, "past the end"),
        (-1, "d", {}, "negative"),
        (1.5, "d", {}, "not a time"),
        (6, "\ud800", {}, "surrogate"),
        (6, "a\0b", {}, "a NUL character"),
    ],
)
def test_errors_in_a_new_segment(chunk, text, more, words):
    """Forbids a way into the plan that is checked less than the timeline's text."""
    with pytest.raises(TimelineError) as caught:
        put(chunk, text, **more)
    assert words in str(caught.value)


def test_hints_of_a_changed_plan():
    """Forbids silence about a segment typed later that is too short or names nothing known."""
    plan = parse("0c A panda walks in snow").plan(None, chunks=20)
    for chunk, text, expected in (
        (5, "It sits", "line 2: the segment repeats neither"),
        (19, "A panda sits", "line 2: the segment lasts 1 chunk"),
        (5, "A panda {cut} sits", "line 2: {cut} is inside"),
    ):
        assert any(expected in hint for hint in with_segment(plan, NewSegment(chunk, text)).hints)
