"""The timeline language: every form parses, every error names its place, and times land on the right chunk."""

import json
from itertools import pairwise

import pytest

from longlive_core.timeline import MAX_SECONDS, Time, TimelineError, parse, shot_boundary


def fail(text, duration=None, **clock):
    """Parse and plan; return the error, which must come."""
    with pytest.raises(TimelineError) as caught:
        parse(text).plan(duration, **clock)
    return caught.value


def rows(plan):
    return [(segment.start_chunk, segment.start_frame, segment.text, segment.transition) for segment in plan.segments]


# --- Time


@pytest.mark.parametrize(
    ("seconds", "chunks", "frames"), [(20, 27, 321), (240, 321, 3849), (12, 17, 201), (0.01, 1, 9)]
)
def test_a_duration_becomes_whole_chunks(seconds, chunks, frames):
    """Forbids a film that is a chunk too short or one too long."""
    plan = parse("A panda").plan(seconds)
    assert (plan.chunks, plan.frames) == (chunks, frames)
    assert plan.seconds == frames / 16


def test_twelve_seconds_snap_to_chunk_16():
    """Forbids snapping up, or by latent frames instead of pixel frames."""
    segment = parse("0s A panda walks\n12s The panda sits").plan(20).segments[1]
    assert (segment.start_chunk, segment.start_frame) == (16, 189)
    assert (round(segment.start_seconds, 2), segment.requested_seconds) == (11.81, 12)
    assert segment.chunks == 11


def test_exact_multiples_add_no_chunk():
    """Forbids float noise (20.0625 s is exactly 321 frames) from adding a 28th chunk."""
    for chunks in range(1, 2000):
        frames = shot_boundary(chunks, 3)
        assert parse("a").plan(frames / 16).chunks == chunks
        assert parse("a").plan(frames / 30, fps=30).chunks == chunks


def test_snapping_is_to_the_nearest_boundary():
    """Forbids floor or ceil, and the boundary 12 i (the clock's first latent frame is one pixel frame)."""
    boundaries = [shot_boundary(index, 3) for index in range(30)]
    for frame in range(5, 320):
        start = parse(f"0s a\n{frame / 16}s b").plan(20.5).segments[1].start_frame
        assert abs(start - frame) == min(abs(frame - boundary) for boundary in boundaries)


def test_a_tie_snaps_to_the_later_boundary():
    """Forbids rounding half to even, which would send equal ties different ways."""
    assert [parse(f"0s a\n{frame / 16}s b").plan(20).segments[1].start_frame for frame in (15, 27)] == [21, 33]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("0:12", Time(seconds=12)),
        ("12s", Time(seconds=12)),
        ("12.5s", Time(seconds=12.5)),
        ("12.5S", Time(seconds=12.5)),
        (".5s", Time(seconds=0.5)),
        ("1:02.5", Time(seconds=62.5)),
        ("75:00", Time(seconds=4500)),
        ("1:00:01", Time(seconds=3601)),
        ("16c", Time(chunk=16)),
    ],
)
def test_every_way_to_write_a_time(token, expected):
    """Forbids reading a time as another one (0:12 as 12 minutes, 1:02.5 without its minute)."""
    segment = parse(f"0s a\n{token} b").segments[1]
    assert (segment.time, segment.text) == (expected, "b")


def test_exact_chunks_are_not_snapped():
    """Forbids moving a segment whose chunk the user counted."""
    assert rows(parse("0c a\n1c b\n16c c").plan(20)) == [
        (0, 0, "a", "recache"),
        (1, 9, "b", "recache"),
        (16, 189, "c", "recache"),
    ]


def test_framewise_chunks():
    """Forbids a chunk size of 3 baked into the clock: with one latent frame, chunks are 1 and then 4 frames."""
    plan = parse("0s a\n1s b").plan(2, chunk=1)
    assert (plan.chunks, plan.frames) == (9, 33)
    assert plan.segments[1].start_frame == 17


def test_a_cut_restarts_the_clock():
    """Forbids a shot after a cut that is three frames too long: its first latent frame is one pixel frame again."""
    plan = parse("0s a\n5s b {cut}\n10s c").plan(15)
    assert [segment.start_chunk for segment in plan.segments] == [0, 7, 14]
    # shot 1: 7 chunks = 81 frames; shot 2 begins there; its chunk 7 is another 81 frames on
    assert [segment.start_frame for segment in plan.segments] == [0, 81, 162]
    assert plan.frames == 81 + shot_boundary(plan.chunks - 7, 3)
    assert plan.frames >= 15 * 16 > plan.frames - 12


def test_many_cuts_keep_the_time():
    """Forbids drift: each cut costs three frames, so later times must land on later chunks."""
    text = "\n".join(f"{second}s shot {second}{' {cut}' if second else ''}" for second in range(0, 100, 2))
    plan = parse(text).plan(100)
    assert max(abs(segment.start_seconds - segment.requested_seconds) for segment in plan.segments) <= 6 / 16
    lengths = [after.start_frame - before.start_frame for before, after in pairwise(plan.segments)]
    assert lengths == [shot_boundary(segment.chunks, 3) for segment in plan.segments[:-1]]


# --- Forms


def test_lines_with_times():
    """Forbids losing text, blank lines shifting lines, and CRLF or a byte order mark ending up in a prompt."""
    script = parse("\ufeff\r\n0s  A panda walks, in snow. \r\n\r\n\t10s\tThe panda sits {keep}\r\n")
    assert [(s.text, s.transition, s.line, s.column) for s in script.segments] == [
        ("A panda walks, in snow.", "recache", 2, 1),
        ("The panda sits", "keep", 4, 2),
    ]


@pytest.mark.parametrize("dash", ["-", " - ", "\u2013", " to "])
def test_ranges_on_one_line_and_on_several(dash):
    """Forbids reading a range's bracket or end as part of the prompt."""
    one = parse(f"[0s{dash}5s: A dog][0:05{dash}0:10: a [big] dog: runs {{keep}}] [10s{dash}15s:3 dogs] {{cut}}")
    assert [(s.text, s.transition, str(s.time), str(s.end)) for s in one.segments] == [
        ("A dog", "recache", "0s", "5s"),
        ("a [big] dog: runs", "keep", "5s", "10s"),
        ("3 dogs", "cut", "10s", "15s"),
    ]
    assert parse(f"[0s{dash}5s: A dog]\n\n[5s{dash}10s: B]").segments[1].line == 3


def test_ranges_give_the_length():
    """Forbids a film that continues after the last range, or stops before it."""
    assert parse("[0s-10s: a dog][10s-20s: a dog runs]").plan(None).chunks == 27
    assert parse("[0c-4c: a dog][4c-9c: a dog runs]").plan(None).chunks == 9


def test_pipes_and_plain_lines_are_split_evenly():
    """Forbids reading `|` as text in lines without times, and an uneven split."""
    for text in (
        "a cat | a cat runs|a cat sits {cut}",
        "a cat\na cat runs\n\na cat sits {cut}",
        "a cat | a cat runs\na cat sits {cut}",
    ):
        assert rows(parse(text).plan(30)) == [
            (0, 0, "a cat", "recache"),
            (14, 165, "a cat runs", "recache"),
            (27, 321, "a cat sits", "cut"),
        ]


def test_longlive_json():
    """Forbids dropping the paper's own prompt files."""
    text = '{\n "prompts": ["A boy stands",\n  "A boy\\nruns {keep}"]}'
    script = parse(text)
    assert [(s.text, s.transition, s.line, s.column) for s in script.segments] == [
        ("A boy stands", "recache", 2, 14),
        ("A boy runs", "keep", 3, 3),
    ]
    assert parse('* In snow.\n{"prompts": ["a"]}').plan(5).texts == ("In snow. a",)


def scope(*entries, **more):
    return json.dumps({"prompts": list(entries), **more}, indent=2)


def entry(start, end, *prompts, **more):
    return {"startTime": start, "endTime": end, "prompts": [{"text": t, "weight": w} for t, w in prompts], **more}


def test_scope_export():
    """Forbids losing the times or the prompt that has the weight; what is not used must be reported."""
    text = scope(
        entry(0.01, 4.5, ("a dog", 100)),
        entry(4.51, 10, ("a dog runs", 1), ("a cat", 0), transitionSteps=4),
        settings={"seed": 42},
        version="2.1",
        exportedAt="2026-01-01",
    )
    plan = parse(text).plan(None)
    assert [(s.text, s.start_chunk) for s in plan.segments] == [("a dog", 0), ("a dog runs", 6)]
    assert plan.chunks == 14
    assert any("settings" in hint for hint in plan.hints)
    assert any("transitionSteps" in hint for hint in plan.hints)


def test_scope_blends_are_refused():
    """Forbids rendering one of several weighted prompts as if it were the blend."""
    error = fail(scope(entry(0, 5, ("a dog", 50), ("a cat", 50))))
    assert "blends 2 prompts" in str(error)
    assert error.line == 12  # of the second text


def test_the_anchor_is_put_before_every_prompt():
    """Forbids an anchor that is a segment, or that only the first prompt gets; and its line must not shift others."""
    script = parse("0s walks\n* A red panda in snow.\n10s sits")
    assert script.anchor == "A red panda in snow."
    plan = script.plan(20)
    assert plan.texts == ("A red panda in snow. walks", "A red panda in snow. sits")
    assert [segment.line for segment in plan.segments] == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        "3 pandas walk",
        "4k film of 2 dogs",
        "2D animation (word:1.3) with $dollar {red|blue} inside",
        "# not a comment",
        "a {keep} b",
        "[3D render] a panda",
        "A panda says: 0s is zero",
        "\u718a\u732b\u5728\u96ea\u5730\u91cc\u8d70",
    ],
)
def test_text_is_literal(text):
    """Forbids reading prompt text as syntax."""
    # '{red|blue}' keeps its bar only in a timed line: without times a bar splits
    assert parse(f"0s {text}").segments[0].text == text
    if "|" not in text:
        assert parse(text).segments[0].text == text


@pytest.mark.parametrize(
    ("written", "transition"), [("{cut}", "cut"), ("{ KEEP }", "keep"), ("{recache}", "recache"), ("", "recache")]
)
def test_transitions(written, transition):
    """Forbids an option that is ignored or stays in the prompt."""
    segment = parse(f"0s a\n5s b {written}").segments[1]
    assert (segment.text, segment.transition) == ("b", transition)


# --- Mistakes: (text, duration, line, column, words of the message)

MISTAKES = [
    ("", None, 1, 1, "empty"),
    (" \n\t\n", None, 1, 1, "empty"),
    ("* A panda", None, 1, 1, "anchor but no prompt"),
    ("* \n0s a", None, 1, 1, "anchor has no text"),
    ("*A panda\n0s a", None, 1, 1, "space after the star"),
    ("0s a\n* b\n  * c", None, 3, 3, "second anchor; the first is in line 2"),
    ("* b {keep}\n0s a", None, 1, 1, "no options"),
    ("0s", None, 1, 3, "no text"),
    ("0s a\n 5s   ", None, 2, 7, "segment at 5s has no text"),
    ("0s a\n5s {keep}", None, 2, 4, "no text"),
    ("a | | b", None, 1, 5, "no text"),
    ("a |", None, 1, 4, "no text"),
    ("[0s-5s: ]", None, 1, 10, "no text"),
    ("0s a\n5s{keep}", None, 2, 3, "no text"),
    ("a\n5s{keep}", None, 2, 1, "starts with a time"),
    ("5s a", None, 1, 1, "first segment starts at 5s"),
    ("[5s-9s: a]", None, 1, 1, "first segment starts at 5s"),
    ("0 a\n5 b", None, 1, 1, "has no unit; write 0s"),
    ("0s a\n5s b\n5s c", None, 3, 1, "the same time as the one in line 2"),
    ("0s a\n5s b\n\n4s c", None, 4, 1, "before the one in line 2"),
    ("0s a\n0:05 b\n3c c", None, 3, 1, "before the one in line 2"),
    ("0s a\nb", None, 2, 1, "has no time, but line 1 starts with a time"),
    ("a\n 5s b", None, 2, 2, "starts with a time, but line 1 has no time"),
    ("0s a\n[5s-9s: b]", None, 2, 1, "range"),
    ("0s a | 5s b", None, 1, 6, "own line"),
    ("a | 5s b", None, 1, 5, "own line"),
    ("-5s a", None, 1, 1, "negative"),
    ("0s a\n1:75 b", None, 2, 1, "'1:75' is not a time"),
    ("0s a\n1.5c b", None, 2, 1, "not a time"),
    ("0s a\n" + "9" * 500 + "s b", None, 2, 1, "too many digits"),
    ("0s a\n99999999s b", None, None, None, "24 hours"),
    ("0s a\n99999999c b", None, None, None, "24 hours"),
    ("0s a\n20s b", 20, 2, 1, "past the end of the film at 20s"),
    ("0s a\n19.9s b", 20, 2, 1, "past the end of the film, whose last chunk is 26"),
    ("0s a\n27c b", 20, 2, 1, "past the end"),
    ("[0s-10s: a][10s-30s: b]", 20, 1, 12, "past the end of the film (27 chunks, 20.06 s)"),
    ("0s a\n5s b\n5.1s c", 20, 3, 1, "the segment starts with chunk 7, and so does the one in line 2"),
    ("a|b|c", 1, 1, 5, "so does the one in line 1, column 3"),
    ("[0s-5s: a", None, 1, 1, "not closed"),
    ("[0s-5s: a] b", None, 1, 12, "text outside the brackets"),
    ("[0s-5s: a] {keep", None, 1, 12, "text outside the brackets"),
    ("[5s-5s: a]", None, 1, 5, "ends at 5s, but starts at 5s"),
    ("[0s-5s: a][4s-9s: b]", None, 1, 11, "overlaps"),
    ("[0s-5s: a]\n[6s-9s: b]", None, 2, 1, "gap"),
    ("[0s-5s: a][7c-9c: b]", None, 1, 11, "both in seconds, both in chunks or both in frames"),
    ('{"prompts": ["a",}', None, 1, 18, "not valid JSON"),
    ('{\n"prompts": [a]}', None, 2, 13, "not valid JSON"),
    ("{red} panda", None, 1, 2, "not valid JSON"),
    ('{"prompts": []}', None, 1, 2, "empty"),
    ('{"prompts": "a"}', None, 1, 2, "must be a list of texts, not a text"),
    ('{"prompt": ["a"]}', None, 1, 1, 'no "prompts"'),
    ('{"prompts": ["a", " "]}', None, 1, 20, "no text"),
    ('{"prompts": ["a", 5]}', None, 1, 2, "entry 2"),
    ('{"prompts": ["a", {"text": "b"}]}', None, 1, 20, "entry 2"),
    ('{"prompts": [{"text": "b"}, "a"]}', None, 1, 29, "entry 2"),
    ('{"prompts": ["a"], "seed": 5}', None, 1, 20, 'unknown key "seed"'),
    ('{"prompts": ["a"], "prompts": ["b"]}', None, 1, 1, "appears twice"),
    ('{"prompts": ["a"]}\n{"prompts": ["b"]}', None, 2, 1, "second film"),
    ('{"prompts": ["\\ud800"]}', None, 1, 14, "surrogate"),
    ("* \ud800\n0s a", None, 1, 1, "surrogate"),
    ("* a\0b\n0s a", None, 1, 1, "a NUL character"),
    ("0s a\n5s a\0b", None, 2, 4, "a NUL character"),
    ("{" + '"prompts": [' * 1 + "[" * 100000, None, 1, None, "JSON"),
    ('{"prompts": ' + "[" * 900 + "]" * 900 + "}", None, 1, None, ""),
    ('{"prompts": [{"startTime": 0, "prompts": [{"text": "a"}]}]}', None, 1, 15, '"endTime" of entry 1 is missing'),
    ('{"prompts": [{"startTime": NaN, "endTime": 5, "text": "a"}]}', None, 1, 15, '"startTime"'),
    ('{"prompts": [{"startTime": -1, "endTime": 5, "text": "a"}]}', None, 1, 15, "cannot be negative"),
    ('{"prompts": [{"startTime": 0, "endTime": 0, "text": "a"}]}', None, 1, 15, "ends at 0 s"),
    ('{"prompts": [{"startTime": 0, "endTime": 5}]}', None, 1, 15, 'no "prompts"'),
    ('{"prompts": [{"startTime": 0, "endTime": 5, "prompts": [{"text": "a", "weight": 0}]}]}', None, 1, 15, "weight"),
    ('{"prompts": [{"startTime": 0, "endTime": 5, "prompts": [{"weight": 1}]}]}', None, 1, 15, 'no "text"'),
]


@pytest.mark.parametrize(("text", "duration", "line", "column", "words"), MISTAKES)
def test_errors_name_their_place(text, duration, line, column, words):
    """Forbids an error that is ignored, that falls back to something else, or that sends the user to a wrong place."""
    error = fail(text, duration)
    assert words in str(error)
    if column is not None:
        assert (error.line, error.column) == (line, column)
    if error.line is not None:
        assert str(error).startswith(f"line {error.line}, column {error.column}: ")


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf"), MAX_SECONDS + 1])
def test_absurd_durations(duration):
    """Forbids a plan of no chunks, or one of a million that fills the disk."""
    with pytest.raises(TimelineError, match=r"duration is|film would last"):
        parse("a").plan(duration)


@pytest.mark.parametrize("clock", [{"fps": 0}, {"fps": float("nan")}, {"chunk": 0}, {"chunk": 1.5}])
def test_absurd_clocks(clock):
    """Forbids dividing by zero later instead of naming the setting now."""
    with pytest.raises(ValueError, match=r"fps is|chunk is"):
        parse("a").plan(5, **clock)


# --- Films without a given length, hints, description


@pytest.mark.parametrize(
    ("text", "seconds"), [("a", 10), ("a | b", 20), ("0s a\n12s b", 22), ("[0s-7s: a]", 7), ("0s a\n0:30 b {cut}", 40)]
)
def test_default_length(text, seconds):
    """Forbids a last prompt without time on screen when no duration is given."""
    plan = parse(text).plan(None)
    assert seconds <= plan.seconds < seconds + 0.75


def hints(text, duration=None):
    return parse(text).plan(duration).hints


def test_hint_for_a_segment_that_repeats_nothing():
    """Forbids both silence about 'then it sits' and nagging where the subject is named, anchored or cut away from."""
    (hint,) = hints("0s A panda walks in snow\n10s Then it sits down\n20s It sits by a river")
    assert "line 2" in hint and "line 1" in hint
    assert not hints("0s A panda walks in snow\n10s Two pandas sit down")
    assert not hints("* A panda in snow.\n0s walking\n10s sitting")
    assert not hints("0s A panda walks in snow\n10s A city by night {cut}")
    assert not hints("\u718a\u732b\u8d70 | \u718a\u732b\u5750")


def test_other_hints():
    """Forbids silence about what will surprise: too short, longer than its range, and syntax that was read as text."""
    assert "line 2: the segment lasts 1 chunk;" in hints("0s a cat\n5s a cat runs\n5.8s a cat sits", 20)[0]
    assert "lasts until 20.06 s" in hints("[0s-5s: a cat]", 20)[0]
    assert "the range ends at 5c" in hints("[0c-5c: a cat]", 20)[0]
    assert "read as text" in hints("0s a cat | a dog")[0]
    assert "{cut} is inside the prompt" in hints("0s a cat\n5s a cat {cut}.")[0]


def test_description_shows_what_will_happen():
    """Forbids rendering for an hour before the user learns the snapped times and the true length."""
    shown = parse("0s A panda walks\n12s Night falls {keep}").plan(20).describe()
    assert "27 chunks, 321 frames, 20.06 s at 16 fps" in shown
    assert "11.81 s" in shown and "frame   189 keep" in shown and "(requested 12.00 s)" in shown
    assert "hint: line 2" in shown
    anchored = parse("* " + "A panda in snow. " * 9 + "\n0s It walks\n12s It sits").plan(20).describe()
    assert "  It walks" in anchored and "  It sits" in anchored


def test_texts_are_distinct_and_in_order():
    """Forbids encoding one prompt twice."""
    assert parse("0s a\n5s b\n10s a").plan(20).texts == ("a", "b")
