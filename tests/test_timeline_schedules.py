"""JSON, schedules and lists of other tools: read if the meaning is certain, else refused with what to write."""

import json
import random

import pytest

from longlive_core.timeline import Time, TimelineError, parse, script_text
from longlive_core.timeline.notations.json_values import read_json


def read(text):
    return [(s.time and str(s.time), s.end and str(s.end), s.text) for s in parse(text).segments]


def fail(text):
    with pytest.raises(TimelineError) as caught:
        parse(text).plan(None)
    return caught.value


FRAMES = [("0f", None, "A red ball, on a meadow"), ("16f", None, "A blue ball")]


@pytest.mark.parametrize(
    "text",
    [
        '"0" :"A red ball, on a meadow",\n"16" :"A blue ball"',
        '"0" :"A red ball, on a meadow",\n"16" :"A blue ball",\n',
        '"0": "A red ball, on a meadow", "16": "A blue ball"',
        '{"0": "A red ball, on a meadow", "16": "A blue ball"}',
        '{"0": "A red ball, on a meadow", "16": "A blue ball",}',
        "{'0': 'A red ball, on a meadow', '16': 'A blue ball'}",
        '{0: "A red ball, on a meadow", 16: "A blue ball"}',
        '{"16": "A blue ball", "0": "A red ball, on a meadow"}',
        "\u201c0\u201d: \u201cA red ball, on a meadow\u201d, \u201c16\u201d: \u201cA blue ball\u201d",
        '{"prompts": {"0": "A red ball, on a meadow", "16": "A blue ball"}}',
        '{"prompt_map": {"0": "A red ball, on a meadow", "16": "A blue ball"}}',
        '{"0": {"prompt": "A red ball, on a meadow"}, "16": {"prompt": "A blue ball"}}',
        '```json\n{"0": "A red ball, on a meadow", "16": "A blue ball"}\n```',
        '// mine\n{"0": "A red ball, on a meadow", /* or */ "16": "A blue ball"} # end',
        '\ufeff{\u200b"0": "A red ball, on a meadow", "16": "A blue ball"}\u200b',
        '[{"frame": 0, "prompt": "A red ball, on a meadow"}, {"frame": 16, "prompt": "A blue ball"}]',
        '[{"time": "0f", "prompt": "A red ball, on a meadow"}, {"time": "16 frames", "prompt": "A blue ball"}]',
    ],
)
def test_schedules_in_frames(text):
    """Forbids prompts of quotes, numbers and brackets."""
    script = parse(text)
    assert read(text) == FRAMES
    assert read(script_text(script)) == FRAMES
    assert script.plan(10).segments[1].requested_seconds == 1


def test_numbers_of_a_schedule_are_reported_as_frames():
    """Forbids silence about which unit was assumed."""
    assert any("read as frames" in hint for hint in parse('{"0": "a", "80": "b"}').hints)
    assert not parse('{"0s": "a", "5s": "b"}').hints


SECONDS = [("0s", None, "A red ball"), ("5s", None, "A blue ball")]


@pytest.mark.parametrize(
    "text",
    [
        '[{"time": 0, "prompt": "A red ball"}, {"time": 5, "prompt": "A blue ball"}]',
        '[{"time": "0s", "prompt": "A red ball"}, {"time": "5s", "prompt": "A blue ball"}]',
        '[{"time": "0:00", "text": "A red ball"}, {"time": "0:05", "text": "A blue ball"}]',
        '[{"start": 0, "caption": "A red ball"}, {"start": 5.0, "caption": "A blue ball"}]',
        '[{"startTime": 0, "prompt": "A red ball"}, {"startTime": 5, "prompt": "A blue ball"}]',
        '[{"start_time": 0, "text": "A red ball"}, {"start_time": 5, "text": "A blue ball"}]',
        '[{"t": 0, "prompt": "A red ball"}, {"t": 5, "prompt": "A blue ball"}]',
        '[{"timestamp": "00:00:00", "visual": "A red ball"}, {"timestamp": "00:00:05", "visual": "A blue ball"}]',
        '[{"time_ms": 0, "prompt": "A red ball"}, {"time_ms": 5000, "prompt": "A blue ball"}]',
        '[{"seconds": 0, "prompt": "A red ball"}, {"at": "5", "prompt": "A blue ball"}]',
        '{"timeline": [{"time": 0, "prompt": "A red ball"}, {"time": 5, "prompt": "A blue ball"}]}',
        '{"prompts": [{"time": 0, "prompt": "A red ball"}, {"time": 5, "prompt": "A blue ball"}]}',
        '{"time": 0, "prompt": "A red ball"}\n{"time": 5, "prompt": "A blue ball"}',
        '{"time": 0, "prompt": "A red ball"},\n{"time": 5, "prompt": "A blue ball"}',
        "[{'time': 0, 'prompt': 'A red ball'}, {'time': 5, 'prompt': 'A blue ball'}]",
        '[{time: 0, prompt: "A red ball"}, {time: 5, prompt: "A blue ball"},]',
        "const shots = [{time: 0, prompt: `A red ball`}, {time: 5, prompt: `A blue ball`}];",
        '[["0s", "A red ball"], ["5s", "A blue ball"]]',
        '[("0s", "A red ball"), ("5s", "A blue ball")]',
        '{"0s": "A red ball", "5s": "A blue ball"}',
        '"0:00": "A red ball", "0:05": "A blue ball"',
        '{"0": "A red ball", "5s": "A blue ball"}',
    ],
)
def test_objects_with_a_time(text):
    """Forbids a list of objects that becomes one prompt, or loses its times."""
    assert read(text) == SECONDS
    assert read(script_text(parse(text))) == SECONDS


LENGTHS = [("0s", "5s", "A red ball"), ("5s", "10s", "A blue ball")]


@pytest.mark.parametrize(
    "text",
    [
        '{"shots": [{"duration": 5, "prompt": "A red ball"}, {"duration": 5, "prompt": "A blue ball"}]}',
        '{"scenes": [{"duration": "5s", "content": "A red ball"}, {"duration": "5", "content": "A blue ball"}]}',
        '{"segments": [{"seconds": 5, "prompt": "A red ball"}, {"seconds": 5, "prompt": "A blue ball"}]}',
        '{"multi_prompt": [{"duration": "5", "prompt": "A red ball"}, {"duration": "5", "prompt": "A blue ball"}]}',
        '[{"start": 0, "end": 5, "prompt": "A red ball"}, {"start": 5, "end": 10, "prompt": "A blue ball"}]',
        '[{"start": 0, "duration": 5, "text": "A red ball"}, {"start": 5, "duration": 5, "text": "A blue ball"}]',
        '[{"start_time": "0s", "end_time": "5s", "prompt": "A red ball"},'
        ' {"start_time": "5s", "end_time": "10s", "prompt": "A blue ball"}]',
        '[{"time": "0-5s", "prompt": "A red ball"}, {"time": "0:05 - 0:10", "prompt": "A blue ball"}]',
        '[{"range": "0s-5s", "prompt": "A red ball"}, {"range": "5s-10s", "prompt": "A blue ball"}]',
        '{"0-5s": "A red ball", "5-10s": "A blue ball"}',
        '[["0s", "5s", "A red ball"], ["5s", "10s", "A blue ball"]]',
        '[{"duration_ms": 5000, "prompt": "A red ball"}, {"duration_ms": 5000, "prompt": "A blue ball"}]',
    ],
)
def test_objects_with_ends_and_lengths(text):
    """Forbids lengths that are read as starts, and ends that are lost."""
    assert read(text) == LENGTHS
    assert read(script_text(parse(text))) == LENGTHS
    assert parse(text).plan(None).seconds == pytest.approx(10, abs=0.75)


def test_lengths_in_frames():
    """Forbids frames that are read as seconds."""
    plan = parse('[{"num_frames": 81, "prompt": "a"}, {"num_frames": 84, "prompt": "b"}]').plan(None)
    assert [segment.start_frame for segment in plan.segments] == [0, 81] and plan.frames == 165


@pytest.mark.parametrize(
    "text",
    [
        '[\n "A red ball",\n "A blue ball"\n]',
        '["A red ball", "A blue ball"]',
        "['A red ball', 'A blue ball',]",
        "('A red ball', 'A blue ball')",
        'prompts = ["A red ball", "A blue ball"]',
        '"A red ball",\n"A blue ball"',
        '"A red ball",\n"A blue ball",\n',
        "\u201cA red ball\u201d,\n\u201cA blue ball\u201d",
        '[{"prompt": "A red ball"}, {"prompt": "A blue ball"}]',
        '{"shots": ["A red ball", "A blue ball"]}',
        '{"prompts": [{"text": "A red ball"}, {"text": "A blue ball"}]}',
        '```python\nprompts = [\n    "A red ball",\n    "A blue ball",\n]\n```',
    ],
)
def test_lists_without_times(text):
    """Forbids prompts with quotes, commas and brackets, a line of brackets that is a prompt of its own included."""
    assert read(text) == [(None, None, "A red ball"), (None, None, "A blue ball")]


def test_keys_of_objects_that_are_not_used():
    """Forbids a cut that is ignored, and silence about what is."""
    script = parse(
        '{"title": "x", "shots": [{"time": 0, "prompt": "a", "negative_prompt": "n", "camera": "pan"},'
        ' {"time": 5, "prompt": "b {keep}", "seed": 7}, {"time": "9s", "prompt": "c", "transition": "Cut"},'
        ' {"time": 12, "text": "t", "prompt": "d", "transition": "fade"}]}'
    )
    assert [(s.transition, s.seed) for s in script.segments] == [
        ("recache", None),
        ("keep", 7),
        ("cut", None),
        ("recache", None),
    ]
    hints = "\n".join(script.hints)
    assert '("time": 5) are read as seconds' in hints
    for left in ("negative_prompt", "camera", "title", "transition", "text"):
        assert left in hints


MISTAKES = [
    ("[]", 1, 1, "empty"),
    ('{"0": "a", "max": "b"}', 1, 12, '"max" is not a time'),
    ('{"0": "a", "5-9": "b"}', 1, 12, '"5-9" is not a time'),
    ('{"0": "a", "1.5": "b"}', 1, 12, "frames are whole numbers"),
    ('{"0": "a", "5s": "b", "9": "c"}', 1, 23, "has no unit"),
    ('{"0": 1}', 1, 2, "it must be the text of a prompt"),
    ('{"5": "a"}', 1, 7, "the first segment starts at 5f"),
    ('[[0, "a"], [5, "b"]]', 1, 6, "has no unit"),
    ('[{"time": 0}]', 1, 3, "has no text"),
    ('[{"time": "soon", "prompt": "a"}]', 1, 11, "'soon' is not a time"),
    ('[{"time": -1, "prompt": "a"}]', 1, 3, "cannot be negative"),
    ('[{"time": NaN, "prompt": "a"}]', 1, 3, "a number of seconds"),
    ('[{"time": 1e999, "prompt": "a"}]', 1, 3, "a number of seconds"),
    ('[{"time": true, "prompt": "a"}]', 1, 3, "a number of seconds"),
    ('[{"frame": 1.5, "prompt": "a"}]', 1, 3, "a whole number"),
    ('[{"range": "0-5", "prompt": "a"}]', 1, 3, "without a unit"),
    ('[{"duration": 0, "prompt": "a"}]', 1, 3, "above 0"),
    ('[{"time": 0, "prompt": "a"}, {"prompt": "b"}]', 1, 31, "entry 2 has no start"),
    ('[{"prompt": "a"}, {"duration": 5, "prompt": "b"}]', 1, 20, "entry 2 has a length"),
    ('[{"end": 5, "prompt": "a"}]', 1, 3, "has an end, but no start"),
    ('[{"start": 0, "end": 0, "prompt": "a"}]', 1, 3, "ends at 0s"),
    ('[{"start": "0f", "duration": 5, "prompt": "a"}]', 1, 3, "write both"),
    ('[{"time": 0, "prompt": "a"}, "b"]', 1, 30, "entry 2"),
    ('{"prompts": ["a" "b"]}', 1, 18, "not valid JSON"),
    ('["a", "b"', 1, 10, "the closing ']' is missing"),
    ('["a", "b]', 1, 7, "Unterminated string"),
    ('"0": "a"\n"16": "b"', 2, 1, "not valid JSON"),
    ('{"prompt": "a"}\n{"prompt": "b"}', 2, 1, "second film"),
    ('{"negative": "a"}', 1, 1, 'no "prompts"; write {"prompts": ["...", "..."]}, [{"time": "5s"'),
    ('Here it is:\n[\n "a",\n "b"\n]', 2, 1, "this line is JSON"),
    ('My film\n{"time": 0, "prompt": "a"}', 2, 1, "this line is JSON"),
]


@pytest.mark.parametrize(("text", "line", "column", "words"), MISTAKES)
def test_errors_in_json_name_their_place(text, line, column, words):
    """Forbids an error that points at nothing, or JSON that becomes prompt text."""
    error = fail(text)
    assert words in str(error)
    assert (error.line, error.column) == (line, column)


def random_json(rng, depth=0):
    kind = rng.choice("slofnb" if depth < 3 else "sfnb")
    if kind == "s":
        return "".join(rng.choice('ab "\\\n\u96ea\U0001f43c/') for _ in range(rng.randint(0, 6)))
    if kind in "lo":
        values = [random_json(rng, depth + 1) for _ in range(rng.randint(0, 3))]
        return values if kind == "l" else {f"k{i}{rng.choice('a: ')}": value for i, value in enumerate(values)}
    return {"f": rng.uniform(-9, 9), "n": rng.randint(-99, 99), "b": rng.choice([True, False, None])}[kind]


def test_json_is_read_as_json():
    """Forbids a lenient reader that reads what is JSON differently from Python's."""
    rng = random.Random(4)
    for _ in range(400):
        value = {"x": random_json(rng)}
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
        assert read_json(text) == [value]


def test_schedules_mix_with_an_anchor_and_options():
    """Forbids JSON that cannot have what lines have."""
    script = parse('* In snow.\n"0": "a",\n"80": "b {cut}"')
    assert script.anchor == "In snow."
    assert [(s.time, s.transition) for s in script.segments] == [(Time(frame=0), "recache"), (Time(frame=80), "cut")]
