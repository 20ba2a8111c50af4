"""Follow-ups: reading and checking answers, retries, and resuming after an interruption."""

import pytest

from longlive_core.train.data.follow_ups import (
    UNFINISHED,
    Answer,
    attempt_seeds,
    fault_of,
    instruction_for,
    read_answer,
    write_batch,
    write_follow_ups,
)
from longlive_core.train.data.pair_file import PairFile, missing_prompts
from longlive_core.train.data.prompt_files import PromptPair, read_prompts, to_line
from tests.train.writer import STORIES

PANDA = "A panda walks through a snowy forest, filmed from the side."
GOOD = "A panda eats bamboo in a snowy forest, filmed from the side."


# --- Reading


@pytest.mark.parametrize(
    "text",
    [
        f"  {GOOD}\n",
        f'"{GOOD}"',
        f"\u201c{GOOD}\u201d",
        f"**Follow-up:** {GOOD}",
        f"Follow-up prompt: \u00ab{GOOD}\u00bb",
        f"*New description:* *{GOOD}*",
        f'Sure! Here is the new description: "{GOOD}"',
        f"Here is what the shot shows next:\n\n{GOOD}",
        f"```text\n{GOOD}\n```",
        f"<think>The panda walks.\n\nIt could eat.</think>\n\n{GOOD}",
        f'It could eat. "Bamboo"?\n</think>\n\n{GOOD}',
        f"<Thinking>eat</Thinking> Answer: {GOOD}",
        GOOD.replace(" in a", "\nin a"),
    ],
)
def test_what_models_put_around_an_answer_is_taken_off(text):
    """Forbids prompts such as 'Follow-up: "A panda"', and thoughts read as prompts."""
    assert read_answer(text) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        'A "panda" eats "bamboo"',
        '"Stop" says a sign beside the panda. It reads "Go"',
        "A panda at 12:30: it eats.",
        "A text: the panda's book",
    ],
)
def test_what_belongs_to_an_answer_stays(text):
    """Forbids quotes and colons torn out of a description. (A label is only a word of our list before a colon.)"""
    assert read_answer(text) == (text if not text.startswith("A text") else "the panda's book")


def test_a_thought_that_does_not_end_is_no_answer():
    """Forbids half a thought, cut at the limit of tokens, as a prompt."""
    assert read_answer("<think>The panda could eat bamboo in the snowy forest") == ""


# --- Checking


@pytest.mark.parametrize(
    ("follow_up", "words"),
    [
        ("", "is empty"),
        (" ... ", "is empty"),
        (PANDA.upper().rstrip("."), "repeats the prompt"),
        (f"{GOOD}\n\nNote: the camera stays.", "more than one paragraph"),
        (f"{GOOD} {GOOD} {GOOD}", "has 36 words, the prompt 11; at most 22"),
        ("A dragon burns a medieval castle at night while knights flee.", "content words, so it shows something else"),
    ],
)
def test_an_answer_that_cannot_be_a_follow_up_is_refused(follow_up, words):
    """Forbids training on switches that switch nothing, or to another film, or on lists and comments."""
    assert words in fault_of(PANDA, follow_up)


@pytest.mark.parametrize(
    ("prompt", "follow_up"),
    [
        (PANDA, GOOD),
        ("A cat", "A cat yawns on a red sofa by the window"),
        ("熊猫在雪地森林里行走。", "熊猫在雪地森林里吃竹子。"),
        ("Ein Bär läuft über Schnee.", "Ein Bär läuft über Schnee und findet einen Fisch."),
        *STORIES.items(),
    ],
)
def test_good_answers_pass(prompt, follow_up):
    """Forbids checks that only know long English prompts."""
    assert fault_of(prompt, follow_up) is None


def test_the_instruction_holds_the_prompt_and_its_length():
    """Forbids a template whose braces eat those of a prompt."""
    asked = instruction_for("A {red} fox % runs")
    assert asked.endswith("Description: A {red} fox % runs") and "(4 words)" in asked


# --- Retries


class Scripted:
    """Answers each prompt from its own list, one per request; records the requests."""

    def __init__(self, answers):
        self.answers, self.asked = {prompt: list(texts) for prompt, texts in answers.items()}, []

    def __call__(self, instructions, seed):
        prompts = [text.rsplit("Description: ", 1)[1] for text in instructions]
        self.asked.append((prompts, seed))
        return [self.answers[prompt].pop(0) for prompt in prompts]


def test_only_what_failed_is_requested_again_with_another_seed():
    """Forbids a second try that must end as the first, good answers thrown away, and tries without end."""
    other = "A red fox sits on a wall in the rain."
    ask = Scripted(
        {
            PANDA: [Answer(PANDA), Answer(GOOD, finished=False), Answer(GOOD)],
            other: [Answer("A red fox sleeps on a wall in the rain.")],
            "A cat": [Answer("")] * 3,
        }
    )
    found, faults = write_batch([PANDA, other, "A cat"], ask, [5, 6, 7])
    assert found == [GOOD, "A red fox sleeps on a wall in the rain.", None]
    assert faults == ["", "", "the answer is empty"]
    assert ask.asked == [([PANDA, other, "A cat"], 5), ([PANDA, "A cat"], 6), ([PANDA, "A cat"], 7)]


def test_an_answer_cut_off_is_refused():
    """Forbids half sentences: cut at the limit of tokens, an answer passes every other check."""
    assert write_batch([PANDA], Scripted({PANDA: [Answer(GOOD, finished=False)]}), [0]) == ([None], [UNFINISHED])


def test_batches_and_attempts_have_seeds_of_their_own():
    """Forbids the same chance for every batch, and for a second command with another --seed."""
    seeds = [seed for first in (0, 1, 2) for number in (0, 8, 16) for seed in attempt_seeds(first, number, 4)]
    assert len(set(seeds)) == len(seeds) == 36
    assert attempt_seeds(1, 8, 4) == attempt_seeds(1, 8, 4)


# --- The file

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven")
PROMPTS = [PromptPair(f"The {word} boat drifts on a lake.") for word in NUMBERS]


def next_of(prompt):
    return prompt.replace("drifts", "sinks")


def obedient(instructions, seed):
    return [Answer(next_of(text.rsplit("Description: ", 1)[1])) for text in instructions]


def work(path, ask=obedient, resume=False, batches=None, pairs=PROMPTS):
    """Write a file with batches of two; `batches`: stop after this many."""
    file = PairFile(path, resume)
    places, failures = missing_prompts(pairs, file), []
    with file:
        for number, (_, failed) in enumerate(
            write_follow_ups(pairs, places, file, ask, seed=0, batch=2, attempts=2), 1
        ):
            failures += failed
            if number == batches:
                break
    return failures


def test_an_interrupted_file_is_continued(tmp_path):
    """Forbids prompts written twice or never, and existing lines lost or written again."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "pairs.jsonl"
    work(whole)
    assert [(pair.prompt, pair.follow_up) for pair in read_prompts(whole)] == [
        (pair.prompt, next_of(pair.prompt)) for pair in PROMPTS
    ]
    work(path, batches=2)
    assert path.read_bytes() == whole.read_bytes()[: path.stat().st_size] and len(read_prompts(path)) == 4
    asked = []
    work(path, lambda instructions, seed: asked.extend(instructions) or obedient(instructions, seed), resume=True)
    assert path.read_bytes() == whole.read_bytes() and len(asked) == 3


@pytest.mark.parametrize("cut", [1, 3, 20, 60])
def test_a_torn_last_line_is_dropped_or_completed(tmp_path, cut):
    """Forbids a torn line glued to the next one, and a whole one, without its line end, written again."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "pairs.jsonl"
    work(whole)
    data = b"".join(whole.read_bytes().splitlines(keepends=True)[:3])
    path.write_bytes(data[:-cut])
    file = PairFile(path, resume=True)
    assert (file.torn is None, len(file.pairs)) == ((True, 3) if cut == 1 else (False, 2))
    assert path.read_bytes() == data[:-cut]  # looking changes nothing
    work(path, resume=True)
    assert path.read_bytes() == whole.read_bytes()


def test_prompts_that_stand_twice_are_written_twice(tmp_path):
    """Forbids a resume that treats the second as done."""
    pairs = [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    work(tmp_path / "pairs.jsonl", pairs=pairs, batches=1)
    work(tmp_path / "pairs.jsonl", pairs=pairs, resume=True)
    assert [pair.prompt for pair in read_prompts(tmp_path / "pairs.jsonl")] == [pair.prompt for pair in pairs]


def test_follow_ups_that_are_there_are_kept(tmp_path):
    """Forbids a person's own follow-ups overwritten by a model."""
    pairs = [PROMPTS[0], PromptPair(PANDA, GOOD), PROMPTS[1]]
    work(tmp_path / "pairs.jsonl", pairs=pairs)
    written = read_prompts(tmp_path / "pairs.jsonl")
    assert written[1] == pairs[1] and written[0].follow_up == next_of(PROMPTS[0].prompt)


def test_a_prompt_that_fails_is_listed_and_leaves_no_line(tmp_path):
    """Forbids gaps that are not reported, and empty follow-ups in the file."""

    def ask(instructions, seed):
        return [
            Answer("") if "three" in text else answer
            for text, answer in zip(instructions, obedient(instructions, seed), strict=True)
        ]

    path = tmp_path / "pairs.jsonl"
    (failure,) = work(path, ask)
    assert (failure.number, failure.prompt) == (3, PROMPTS[2].prompt) and "empty" in failure.reason
    assert len(read_prompts(path)) == 6
    assert not work(path, resume=True) and len(read_prompts(path)) == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (to_line(PromptPair("c", "b")), "holds 1 pairs whose prompts are not among the given ones, such as 'c'"),
        (to_line(PROMPTS[0]), "line 1: a prompt without a follow-up"),
        ("not JSON\n" + to_line(PromptPair("a", "b")), "line 1: not JSON"),
        ("[1]", "line 1: a list where an object is expected"),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content, words):
    """Forbids pairs of two lists in one file, and another file changed by mistake."""
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match="already; add --resume"):
        work(path)
    with pytest.raises(ValueError) as caught:
        work(path, resume=True)
    assert words in str(caught.value) and path.read_text() == content
