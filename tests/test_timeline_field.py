"""Timelines as people really type and paste them: read if the meaning is certain, else refused with the place.

Each table is one kind. A row that is read says where its two segments start (and end); what is typed as a time must
never turn up in a prompt.
"""

import pytest

from longlive_core.timeline import Time, TimelineError, parse, plan_text, read_exact, script_text

RED, BLUE = "A red ball bounces on a meadow.", "A blue ball bounces on a meadow."


def read(text):
    return [(str(s.time), None if s.end is None else str(s.end), s.text) for s in parse(text).segments]


def fail(text):
    with pytest.raises(TimelineError) as caught:
        parse(text).plan(None)
    return caught.value


# --- One time in front of each prompt: {} is the prompt

SINGLE = [
    "0s {}\n5s {}",
    "0s: {}\n5s: {}",
    "0s:{}\n5s:{}",
    "0s : {}\n5s : {}",
    "0s - {}\n5s - {}",
    "0s \u2013 {}\n5s \u2014 {}",
    "0s \u2212 {}\n5s \u2212 {}",
    "0s | {}\n5s | {}",
    "0s, {}\n5s, {}",
    "0s; {}\n5s; {}",
    "0s. {}\n5s. {}",
    "0s) {}\n5s) {}",
    "0s = {}\n5s = {}",
    "0s -> {}\n5s \u2192 {}",
    "0s\t{}\n5s\t{}",
    "0:00 - {}\n0:05 - {}",
    "0:00: {}\n0:05: {}",
    "00:00.000 {}\n00:05.000 {}",
    "00:00:00,000 {}\n00:00:05,000 {}",
    "00:00:00:00 {}\n00:00:05:00 {}",
    "0:00s {}\n0:05s {}",
    "0'00\" {}\n0'05\" {}",
    "0 s {}\n5 s {}",
    "0 sec {}\n5 sec {}",
    "0sec {}\n5secs {}",
    "0 seconds {}\n5 seconds {}",
    "0 Seconds: {}\n5 SECONDS: {}",
    "0ms {}\n5000 ms {}",
    "0m0s {}\n0m5s {}",
    "0 min 0 sec: {}\n0 min 5 sec: {}",
    "at 0s: {}\nat 5s: {}",
    "At 0s, {}\nAt 5s, {}",
    "@0s {}\n@5s {}",
    "@ 0:00 {}\n@ 0:05 {}",
    "t=0s {}\nt=5s {}",
    "Time: 0s - {}\nTime: 5s - {}",
    "second 0: {}\nsecond 5: {}",
    "(0s) {}\n(5s) {}",
    "[0s] {}\n[5s] {}",
    "[0:00] {}\n[0:05] {}",
    "[0s]: {}\n[5s]: {}",
    "[0s: {}]\n[5s: {}]",
    "[0s: {}] [5s: {}]",
    "[0s] {} [5s] {}",
    "[00:00.00]{}\n[00:05.00]{}",
    "<0s> {}\n<5s> {}",
    '"0s" {}\n"5s" {}',
    "- 0s {}\n- 5s {}",
    "* 0s {}\n* 5s {}",
    "\u2022 0s {}\n\u2022 5s {}",
    "1. 0s {}\n2. 5s {}",
    "1) 0s: {}\n2) 5s: {}",
    "1 0s {}\n2 5s {}",
    "> 0s {}\n> 5s {}",
    "# 0s {}\n# 5s {}",
    "- [ ] 0s {}\n- [x] 5s {}",
    "**0s** {}\n**5s** {}",
    "**0s:** {}\n**5s:** {}",
    "**0s {}**\n**5s {}**",
    "`0s` {}\n`5s` {}",
    "Scene 1 (0s): {}\nScene 2 (5s): {}",
    "Shot 1 - 0:00 - {}\nShot 2 - 0:05 - {}",
    "0s:\n{}\n5s:\n{}",
    "0s\n{}\n\n5s\n{}",
    "[0s]\n{}\n[5s]\n{}",
    "## 0s\n\n{}\n\n## 5s\n\n{}",
    "| 0s | {} |\n| 5s | {} |",
    "| time | prompt |\n|---|:---|\n| 0s | {} |\n| 5s | {} |",
    "| # | time | prompt |\n|---|---|---|\n| 1 | 0s | {} |\n| 2 | 5s | {} |",
    "time,prompt\n0s,{}\n5s,{}",
    'time,prompt\n0s,"{}"\n5s,"{}"',
    '0s: "{}",\n5s: "{}"',
    "```\n0s {}\n5s {}\n```",
    "0s {}\n---\n5s {}",
    "0\u79d2\uff1a{}\n5\u79d2\uff1a{}",
    "\u7b2c0\u79d2\uff1a{}\n\u7b2c5\u79d2\uff1a{}",
]


@pytest.mark.parametrize("text", SINGLE)
def test_a_time_in_front_of_a_prompt(text):
    """Forbids a time that becomes prompt text, or a sign around it that stays in the prompt."""
    assert read(text.format(RED, BLUE)) == [("0s", None, RED), ("5s", None, BLUE)]


RANGES = [
    "0:00-0:05 {}\n0:05-0:10 {}",
    "0-5s: {}\n5-10s: {}",
    "0s - 5s: {}\n5s - 10s: {}",
    "0s-5s {}\n5s-10s {}",
    "0s-5: {}\n5s-10: {}",
    "0s \u2013 5s {}\n5s \u2014 10s {}",
    "0s to 5s: {}\n5s to 10s: {}",
    "0 to 5 seconds: {}\n5 to 10 seconds: {}",
    "from 0s to 5s: {}\nfrom 5s to 10s: {}",
    "From 0 to 5 sec, {}\nFrom 5 to 10 sec, {}",
    "between 0s and 5s: {}\nbetween 5s and 10s: {}",
    "0s..5s {}\n5s..10s {}",
    "0~5s {}\n5~10s {}",
    "0s -> 5s: {}\n5s \u2192 10s: {}",
    "(0s-5s) {}\n(5s-10s) {}",
    "[0s-5s] {}\n[5s-10s] {}",
    "[0s-5s {}]\n[5s-10s {}]",
    "[0-5s: {}]\n[5-10s: {}]",
    "[0s-5s: {}], [5s-10s: {}]",
    "[0:00-0:05]: {}\n[0:05-0:10]: {}",
    "[0:00 - 0:05:] {}\n[0:05 - 0:10:] {}",
    "- 0:00-0:05 | {}\n- 0:05-0:10 | {}",
    "Scene 1 (0-5s): {}\nScene 2 (5-10s): {}",
    "**Scene 1 (0s-5s):** {}\n**Scene 2 (5s-10s):** {}",
    "Shot 1: 0:00-0:05 - {}\nShot 2: 0:05-0:10 - {}",
    "### Scene 1 (0s - 5s)\n{}\n\n### Scene 2 (5s - 10s)\n{}",
    "start: 0s, end: 5s, {}\nstart: 5s, end: 10s, {}",
    "| 0s | 5s | {} |\n| 5s | 10s | {} |",
    "start,end,text\n0s,5s,{}\n5s,10s,{}",
    "0s\t5s\t{}\n5s\t10s\t{}",
    "1\n00:00:00,000 --> 00:00:05,000\n{}\n\n2\n00:00:05,000 --> 00:00:10,000\n{}\n",
    "WEBVTT - film\n\nNOTE a\nb\n\nintro\n00:00.000 --> 00:05.000 align:start\n{}\n\n00:05.000 --> 00:10.000\n{}",
    "0:00:00.000,0:00:05.000\n{}\n\n0:00:05.000,0:00:10.000\n{}",
    "0-5\u79d2\uff1a{}\n5-10\u79d2\uff1a{}",
    "\u30100s-5s\u3011{}\n\u30105s-10s\u3011{}",
]


@pytest.mark.parametrize("text", RANGES)
def test_a_range_in_front_of_a_prompt(text):
    """Forbids ranges outside of brackets that become prompt text."""
    assert read(text.format(RED, BLUE)) == [("0s", "5s", RED), ("5s", "10s", BLUE)]
    assert parse(text.format(RED, BLUE)).plan(None).seconds == pytest.approx(10, abs=0.75)


@pytest.mark.parametrize(
    ("token", "time"),
    [
        ("5,5s", Time(seconds=5.5)),
        ("5.5 s", Time(seconds=5.5)),
        ("1m30s", Time(seconds=90)),
        ("1m30", Time(seconds=90)),
        ("1 min", Time(seconds=60)),
        ("2m", Time(seconds=120)),
        ("1h", Time(seconds=3600)),
        ("1h 2m 3s", Time(seconds=3723)),
        ("500ms", Time(seconds=0.5)),
        ("1:30 min", Time(seconds=90)),
        ("00:05.500", Time(seconds=5.5)),
        ("0:05,500", Time(seconds=5.5)),
        ("\u0665s", Time(seconds=5)),
        ("\uff15\uff53", Time(seconds=5)),
        ("0\uff1a05", Time(seconds=5)),
        ("5\u79d2", Time(seconds=5)),
        ("5\u00a0s", Time(seconds=5)),
        ("16f", Time(frame=16)),
        ("16 frames", Time(frame=16)),
        ("frame 16:", Time(frame=16)),
        ("Frame #16 -", Time(frame=16)),
        ("16 chunks", Time(chunk=16)),
        ("chunk 16:", Time(chunk=16)),
    ],
)
def test_more_ways_to_write_a_time(token, time):
    """Forbids reading a time as another one, and a unit that stays in the prompt."""
    segment = parse(f"0s a\n{token} b").segments[1]
    assert (segment.time, segment.text) == (time, "b")


def test_frames_are_places_at_the_film_s_rate():
    """Forbids frames counted at another rate, or snapped like chunks; they mix with seconds in any order that rises."""
    plan = parse("frame 0: a\nframe 189: b\n20s c\n400f d").plan(30)
    assert [segment.start_frame for segment in plan.segments] == [0, 189, 321, 405]
    assert [segment.start_chunk for segment in parse("0f a\n48f b").plan(8, fps=24).segments] == [0, 4]
    assert parse("0f a\n48f b").plan(8, fps=24).segments[1].requested_seconds == 2
    assert parse("0-79f: a\n80-159f: b").plan(None).segments[1].requested_seconds == 5
    assert parse("0s a\n5s b {blend=24f}").plan(20).segments[1].blend == 2
    assert "the segment starts at 2s" in str(fail("0s a\n5s b\n32f c"))


# --- Not certain: refused, with what to write

REFUSED = [
    ("0 a\n5 b", 1, 1, "has no unit; write 0s"),
    ("0: a\n16: b", 1, 1, "has no unit; write 0s (or 0f for frames"),
    ("5: a\n10: b", 1, 1, "has no unit; write 5s"),
    ("0,a\n5,b", 1, 1, "has no unit"),
    ("0\ta\n5\tb", 1, 1, "has no unit"),
    ("0 | a\n5 | b", 1, 1, "has no unit"),
    ("0 - a", 1, 1, "has no unit"),
    ("0.0 a\n5.0 b", 1, 1, "has no unit; write 0.0s"),
    ("t=0 a\nt=5 b", 1, 1, "has no unit"),
    ("(0) a", 1, 1, "has no unit"),
    ("0-5: a", 1, 1, "the range '0-5' has no unit; write 0s-5s"),
    ("0-5 a\n5-10 b", 1, 1, "has no unit"),
    ("(0-5) a", 1, 1, "has no unit"),
    ("[0-5] a", 1, 1, "has no unit"),
    ("[0-5: a]", 1, 1, "has no unit"),
    ("Scene 1 (0-5): a", 1, 9, "has no unit"),
    ("0s a\n5 b", 2, 1, "'5' has no unit; write 5s"),
    ("0s a\n3 pandas walk", 2, 1, "write a time before it: '0s 3 ...'"),
    ("0s a\n+5s b", 2, 1, "count from the film's start"),
    ("0s a\n5 seconds later b", 2, 1, "counts from another moment"),
    ("0s a\n0:5 b", 2, 1, "'0:5' is not a time"),
    ("0:0-0:5 a", 1, 1, "'0:0' is not a time"),
    ("0s a\n0:05,5 b", 2, 1, "is not a time"),
    ("0s a\n1,000s b", 2, 1, "write 1000s or 1.000s"),
    ("00:00:00:12 a", 1, 1, "counts frames at another frame rate"),
    ("0:00:00;12 a", 1, 1, "counts frames at another frame rate"),
    ("0sA ball", 1, 1, "put a space between"),
    ("0s-text", 1, 1, "no space between '0s' and its prompt; write '0s text'"),
    ("0s a\n80s-style neon", 2, 1, "no space between '80s' and its prompt"),
    ("PT0S a", 1, 1, "is not a time"),
    ("(5s) a\n(5s) b", 1, 1, "times are positions in it, not lengths"),
    ("A panda stands [5s: it waves]", 1, 16, "is inside a prompt"),
    ("0s a [5s-9s: b]", 1, 6, "is inside a prompt"),
    ("0s a\n0s-5s b", 2, 1, "is a range with start and end, but line 1 starts with a time"),
    ("0s-5s a\nb", 2, 1, "this line has no time, but line 1 is a range"),
    ("0s a\n5s", 2, 3, "has no text"),
    ("prompts:\n  - a", 1, 1, "YAML"),
    ("- time: 0\n  prompt: a", 1, 1, "YAML"),
    ("Dialogue: 0,0:00:00.00,0:00:05.00,Default,,0,0,0,,a", 1, 1, "subtitle file"),
    ("| 0s | a | notes |", 1, 1, "a table row has a time and a prompt"),
    ("**Scene 1**\n0s a", 1, 1, "Markdown's bold"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), REFUSED)
def test_ambiguous_times_are_refused(text, line, column, words):
    """Forbids guessing, and prompt text that was meant as a time."""
    error = fail(text)
    assert words in str(error)
    assert (error.line, error.column) == (line, column)


# --- What cannot be seen

UNSEEN = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202e\u2066\u2069\u061c\u180e\x7f\x1a"


def test_arrows_in_front_of_prompts_are_ranges_and_no_subtitles():
    """Forbids a first prompt that is read as the name of a subtitle, and lost."""
    first, second = parse("0s->5s a red ball\n5s -> 10s a blue ball").segments
    assert (str(first.time), str(first.end), first.text) == ("0s", "5s", "a red ball")
    assert (str(second.time), str(second.end), second.text) == ("5s", "10s", "a blue ball")


@pytest.mark.parametrize("char", UNSEEN)
def test_invisible_characters_outside_prompts_do_not_count(char):
    """Forbids a zero-width space, a byte order mark or a directional mark that hides a time or an option."""
    for place in (
        "{0}0s a\n{0}5s b {{cut}}",
        "0{0}s{0} a\n5s{0}: b{0} {{{0}cut{0}}}{0}",
        "0s a{0}\n{0}\n5s b {{cut}} {0}",
        "{0}[0s-5s: a]{0}\n[{0}5s{0}-10s:{0} b] {{cut}}",
        '{0}[{0}"a",{0} "b {{cut}}{0}"]',
    ):
        segments = parse(place.format(char)).segments
        assert [(s.text, s.transition) for s in segments] == [("a", "recache"), ("b", "cut")]


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\r", "\r\n"])
def test_every_line_end_is_one(end):
    """Forbids two segments that become one prompt because a word processor ends lines in its own way."""
    assert read(f"0s a{end}5s b") == [("0s", None, "a"), ("5s", None, "b")]
    assert fail(f"0s a{end}b").line == 2


def test_invisible_characters_inside_a_prompt_stay_and_are_named():
    """Forbids prompts that change, and with them the keys of stored chunks; and silence about invisible characters."""
    plan = parse("0s a\u200bb\n5s a c\u00add").plan(10)
    assert [segment.text for segment in plan.segments] == ["a\u200bb", "a c\u00add"]
    assert any("line 1 (and 1 more): an invisible character (U+200B)" in hint for hint in plan.hints)
    for text in ("0s \U0001f468\u200d\U0001f469 \u2764\ufe0f", "0s \u0645\u06cc\u200c\u0631\u0648\u062f"):
        assert not parse(text).plan(5).hints


@pytest.mark.parametrize(
    "text",
    [
        "\uff10\uff53 a\n\uff15\uff53 b \uff5bcut\uff5d",
        "0s\uff1aa\n5s\uff1ab \uff5b \uff23\uff35\uff34 \uff5d",
        "\uff3b0s\uff0d5s\uff1aa\uff3d\uff3b5s\u301c10s\uff1ab \uff5bcut\uff5d\uff3d",
        "\uff080s\uff09a\n\uff085s\uff09b {cut}",
        "\u0660s a\n\u0665s b {cut}",
        "a | b \uff5bcut\uff5d",
        "{\u201cprompts\u201d: [\u201ca\u201d, \u201cb {cut}\u201d]}",
    ],
)
def test_full_width_forms_and_other_digits(text):
    """Forbids the signs of a Chinese, Japanese or Arabic keyboard that become prompt text."""
    assert [(s.text, s.transition) for s in parse(text).segments] == [("a", "recache"), ("b", "cut")]


def test_full_width_braces_around_other_words_are_text():
    """Forbids an error, or another prompt, for what was a prompt before."""
    assert parse("\u718a\u732b\uff5b\u98ce\u666f\uff5d").segments[0].text == "\u718a\u732b\uff5b\u98ce\u666f\uff5d"


@pytest.mark.parametrize(
    "written",
    ["(cut)", "[cut]", "<cut>", "{{cut}}", "--cut", "/cut", "**cut**", "| cut", "[KEEP]", "(seed=7)", "--blend=2s"],
)
def test_options_in_other_signs_are_refused(written):
    """Forbids a cut that is rendered as a word."""
    error = fail(f"0s a\n5s b {written}")
    assert "is not an option; write {" in str(error) and (error.line, error.column) == (2, 6)
    assert parse(f"0s a\n5s b {written}.").segments[1].text == f"b {written}."


# --- What was a prompt stays that prompt

PROSE = [
    "80s-style neon city",
    "80s-90s retro city",
    "5 seconds of rain",
    "0-60 mph sprint of a car",
    "3 pandas walk",
    "at 0 degrees water freezes",
    "At 5 in the morning a fox runs",
    "10 30s dancers",
    "50/50 light and dark",
    "24/7 diner",
    "0% alcohol on a label",
    "2D animation",
    "35mm photo",
    "8 1/2 weeks",
    "1st prize",
    "Between two trees, a fox",
    "From above: a city",
    "Scene of a battle",
    "Shot from above, a river",
    "A panda ... sits",
    "[3D render] a panda",
    "5 m tall statue",
    "0-day",
    "A 5-10 year old boy",
    '"Hello" she says',
    "4k film",
    "5-pointed star",
    "t-shirt",
]


@pytest.mark.parametrize("prose", PROSE)
def test_sentences_are_prompts(prose):
    """Forbids taking a sentence for a time, alone, after a time, and below another prompt."""
    assert parse(prose).segments[0].text == prose
    assert parse(f"0s {prose}").segments[0].text == prose
    assert parse(f"A panda\n{prose}").segments[1].text == prose
    assert parse(f"0s\n{prose}").segments[0].text == prose


@pytest.mark.parametrize(
    "prose", ["- 3 pandas", "| 5 pandas", "... and then", ", then", "to the beach", "5s later", "-5 degrees"]
)
def test_a_script_writes_prompts_that_begin_with_a_sign(prose):
    """Forbids a prompt that loses its first sign when it is written and read."""
    script = parse(f"0s: {prose}")
    assert script.segments[0].text == prose
    assert parse(script_text(script)).segments == script.segments
    plan = parse('["' + prose + '"]').plan(5)
    assert parse(plan_text(plan)).plan(None, chunks=plan.chunks).texts == (prose,)


def test_stored_takes_read_as_they_were_written():
    """Forbids a take whose prompts change because the language learned to read more since it was stored."""
    for prompt in ("- a", "| a", "to 5s: a", "a {cut}\u200b", "a (cut)", "5s a", "a\u2028b", "a [5s: b]"):
        script = read_exact(f"* Snow.\n0c {prompt}\n4c {prompt} {{cut, seed=7}}\n9c b {{blend=2c}}")
        assert [(s.text, s.transition, s.seed) for s in script.segments[:2]] == [
            (prompt, "recache", None),
            (prompt, "cut", 7),
        ]
        plan = script.plan(None, chunks=20)
        assert plan.texts[0] == f"Snow. {prompt}" and plan.segments[2].blend == 2
        assert read_exact(plan_text(plan)).plan(None, chunks=20).texts == plan.texts
