"""Prompts of the training: files, and draws that resume and are shared out without a state."""

import pytest

from longlive_core.pocket.toybox_prompts import ToyboxPrompts
from longlive_core.toybox import captions, world
from longlive_core.train.data.prompt_files import PromptPair, PromptStream, read_prompts, require_follow_ups, to_line


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# --- Files


def test_a_text_file_is_one_prompt_a_line(tmp_path):
    """Forbids comments, blank lines, byte order marks and Windows' line ends in prompts, and lines cut at U+2028."""
    content = "\ufeff# from a list\r\nA panda walks.\r\n\r\n  A red fox\u2028sits.  \r\n熊猫在吃竹子"
    path = written(tmp_path, "prompts.txt", content)
    wanted = ["A panda walks.", "A red fox\u2028sits.", "熊猫在吃竹子"]
    assert read_prompts(path) == [PromptPair(text, None) for text in wanted]


def test_json_lines_hold_pairs(tmp_path):
    """Forbids follow-ups lost on the way, under our keys or LongLive's, and lines that do not read back."""
    lines = [
        '{"prompt": "a", "follow_up": "b"}',
        '{"prompt": "c"}',
        "",
        '{"prompt": "d", "follow_up": null}',
        '{"prompt": "e", "switch_prompt": "f"}',
        '{"prompts": ["g", "h"]}',
        '{"prompts": ["i"]}',
    ]
    wanted = [
        PromptPair("a", "b"),
        PromptPair("c"),
        PromptPair("d"),
        PromptPair("e", "f"),
        PromptPair("g", "h"),
        PromptPair("i"),
    ]
    pairs = read_prompts(written(tmp_path, "pairs.jsonl", "\n".join(lines)))
    assert pairs == wanted
    odd = [*pairs, PromptPair('quotes " and \\', "a line\nbreak, \u2028 and 熊猫")]
    assert read_prompts(written(tmp_path, "again.jsonl", "".join(map(to_line, odd)))) == odd


def test_two_text_files_are_paired_by_line(tmp_path):
    """Forbids a pair from two different lines: the model would be trained on switches to another subject."""
    first = written(tmp_path, "first.txt", "# one\na\n\nb\n\n")
    second = written(tmp_path, "second.txt", "# two\nc\n\nd")
    assert read_prompts(first, second) == [PromptPair("a", "c"), PromptPair("b", "d")]
    with pytest.raises(ValueError, match="first.txt' has 4 lines and .*second.txt' has 2"):
        read_prompts(first, written(tmp_path, "second.txt", "c\nd"))
    with pytest.raises(ValueError, match=r"second.txt, line 3: no text, but line 3 of '.*first.txt' has one"):
        read_prompts(written(tmp_path, "first.txt", "a\n\nb\nc"), written(tmp_path, "second.txt", "d\n\n\ne"))
    with pytest.raises(ValueError, match=r"pairs.jsonl': a file of follow-ups goes with"):
        read_prompts(first, written(tmp_path, "pairs.jsonl", '{"prompt": "a"}'))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.txt", "", "p.txt' holds no prompts"),
        ("p.txt", "# only\n\n# comments\n", "holds no prompts"),
        ("p.txt", b"a\nb\n\xe4\xf6", "p.txt, line 3: not UTF-8 text (byte 0xe4)"),
        ("p.txt", b"\xef\xbb\xbfa\n\xe4\xf6", "p.txt, line 2: not UTF-8 text (byte 0xe4)"),
        ("p.jsonl", b'{"prompt": "a"}\n\xff', "p.jsonl, line 2: not UTF-8 text"),
        ("p.csv", "a", "p.csv' ends in '.csv'; prompts are read from .txt"),
        ("p.jsonl", "", "holds no prompts"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": "b"', "p.jsonl, line 2: not JSON ("),
        ("p.jsonl", '{"prompt": "a"}\n\nA panda', "line 3: not JSON (Expecting value, column 1)"),
        ("p.jsonl", '"a"', "line 1: a text where an object is expected"),
        ("p.jsonl", "{}", 'line 1: "prompt" is missing'),
        ("p.jsonl", '{"follow_up": "b"}', 'line 1: "prompt" is missing'),
        ("p.jsonl", '{"prompt": " "}', 'line 1: "prompt" is empty'),
        ("p.jsonl", '{"prompt": 3}', '"prompt" must be a text, not a number'),
        ("p.jsonl", '{"prompt": null}', '"prompt" must be a text, not null'),
        ("p.jsonl", '{"prompt": "a", "follow_up": ["b"]}', '"follow_up" must be a text, not a list'),
        ("p.jsonl", '{"prompt": "a", "follow_up": ""}', '"follow_up" is empty'),
        ("p.jsonl", '{"prompt": "a", "followup": "b"}', 'unknown key "followup"; allowed are: prompt, follow_up'),
        ("p.jsonl", '{"prompt": "a", "prompt": "b"}', '"prompt" occurs twice in one object'),
        ("p.jsonl", '{"prompt": "a", "follow_up": "b", "switch_prompt": "c"}', "mean the same"),
        ("p.jsonl", '{"prompts": ["a", "b", "c"]}', "at most one follow-up, not 3 entries"),
        ("p.jsonl", '{"prompts": "a"}', "at most one follow-up, not a text"),
        ("p.jsonl", '{"prompts": ["a", ""]}', '"prompts" is empty'),
        ("p.jsonl", '{"prompts": ["a"], "prompt": "b"}', "no other key is allowed with it"),
        ("p.jsonl", '{"prompt": "\\ud83d"}', "holds half of a character (\\ud83d)"),
    ],
)
def test_a_wrong_file_is_reported_with_file_and_line(tmp_path, name, content, words):
    """Forbids training on half of a file, on empty prompts, and hours of search for the line."""
    with pytest.raises(ValueError) as caught:
        read_prompts(written(tmp_path, name, content))
    assert words in str(caught.value) and name in str(caught.value)


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    """Forbids tracebacks of the operating system's."""
    (tmp_path / "folder.txt").mkdir()
    for name in ("none.txt", "none.jsonl", "folder.txt"):
        with pytest.raises(ValueError, match=f"cannot read the prompts '.*{name}': "):
            read_prompts(tmp_path / name)


def test_missing_follow_ups_are_counted_and_the_tool_is_named():
    """Forbids a training with switches that switches to nothing."""
    require_follow_ups([PromptPair("a", "b")], "pairs.jsonl")
    with pytest.raises(ValueError, match="2 of 3 prompts of 'p.txt' have no follow-up.*longlive_core follow-ups p.txt"):
        require_follow_ups([PromptPair("a", "b"), PromptPair("c"), PromptPair("d")], "p.txt")


# --- Draws

PAIRS = [PromptPair(f"prompt {number}") for number in range(7)]


def streams():
    return [PromptStream(PAIRS, seed=3), ToyboxPrompts(seed=3)]


def test_an_epoch_repeats_nothing_and_epochs_differ():
    """Forbids prompts that come twice before others came once, and an order that is the same forever."""
    stream = PromptStream(PAIRS, seed=0)
    drawn = [pair for step in range(14) for pair in stream.draw(step, 3)]
    epochs = [drawn[start : start + 7] for start in range(0, 42, 7)]
    assert all(set(epoch) == set(PAIRS) for epoch in epochs)
    assert len({tuple(pair.prompt for pair in epoch) for epoch in epochs}) > 1
    assert PromptStream(PAIRS, seed=1).draw(0, 7) != epochs[0]


@pytest.mark.parametrize("place", [0, 1], ids=["file", "toybox"])
def test_a_draw_follows_from_its_step_alone(place):
    """Forbids a resumed training that sees other prompts than one that was not stopped."""
    stream = streams()[place]
    drawn = [stream.draw(step, 4) for step in range(6)]
    for step in (5, 0, 3):
        assert streams()[place].draw(step, 4) == drawn[step] == stream.draw(step, 4)
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize("place", [0, 1], ids=["file", "toybox"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_together_draw_what_one_would(place, ranks):
    """Forbids two GPUs that train on other prompts than one, or both on the same."""
    stream = streams()[place]
    for step in range(5):
        together = [pair for rank in range(ranks) for pair in streams()[place].draw(step, 2, rank, ranks)]
        assert together == stream.draw(step, 2 * ranks)


@pytest.mark.parametrize("arguments", [(-1, 1), (0, 0), (0, 1, 2, 2), (0, 1, -1, 2), (0, 1, 0, 0)])
def test_a_draw_that_cannot_be_is_reported(arguments):
    """Forbids ranks that draw each other's prompts because one of them counts from 1."""
    for stream in streams():
        with pytest.raises(ValueError, match="0 <= rank < ranks"):
            stream.draw(*arguments)


def test_nothing_to_draw_from_is_reported():
    """Forbids a division by zero after the models were loaded."""
    with pytest.raises(ValueError, match="no prompts to draw from"):
        PromptStream([], seed=0)
    for make in (lambda: PromptStream(PAIRS, seed=-1), lambda: ToyboxPrompts(-1)):
        with pytest.raises(ValueError, match="seed -1"):
            make()


def test_toybox_pairs_state_their_attributes_and_avoid_held_out_ones():
    """Forbids sentences that do not match their attributes, and training on what the model is judged by."""
    drawn = ToyboxPrompts(0).draw(0, 400)
    for pair in drawn:
        assert captions.attributes_of(pair.prompt) == pair.before != pair.after
        assert captions.attributes_of(pair.follow_up) == pair.after
        assert not world.is_held_out(pair.before) and not world.is_held_out(pair.after)
    require_follow_ups(drawn, "toybox")
    assert len({pair.before for pair in drawn}) > 200
