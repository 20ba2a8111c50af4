"""Follow-ups written by an instruction model: the instruction, parsing and checking of answers, and retries.

LongLive's long tuning switches from a prompt to a follow-up in the middle of a film. In the paper a language model
writes these follow-ups under constraints: subject, setting and camera stay, one thing is new. The wording here is our
own. The model is behind a function (`Ask`); `instruction_model` implements it with transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .pair_file import PairFile
from .prompt_files import PromptPair

INSTRUCTION = """\
Below is the description of a video shot. Write the description of what the same shot shows next.

- Same subject, same setting, same camera: viewpoint, movement, light and style stay as they are.
- Exactly one thing is new: one action that the subject now does, or one object that now appears. All else is as before.
- The new text is read alone, by someone who has not seen the first. Describe subject and setting in full again, in \
the words of the first text where you can, and do not write "then", "now", "still", "again" or "continues".
- One paragraph, about as long as the first text ({words} words). No quotation marks, no heading, no explanation: \
answer with the description only.

Description: {prompt}"""

LONGEST = 2.0  # maximum length, relative to the prompt
SHORT = 10  # words; for a shorter prompt, twice its length would be too short for a new action
UNFINISHED = "the answer did not end within its tokens (raise --max-tokens if the model thinks for long)"
SHARED = 0.3  # minimum share of the prompt's content words; low, to allow rewording: it rejects other scenes only


@dataclass(frozen=True)
class Answer:
    """A model's answer. finished: it ended by itself, not at the token limit."""

    text: str
    finished: bool = True


Ask = Callable[[Sequence[str], int], Sequence[Answer]]
"""(instructions, seed) -> one answer per instruction; the same arguments give the same answers."""


@dataclass(frozen=True)
class Failure:
    """A prompt without a valid follow-up after all attempts: its number in the file, from 1, and the last fault."""

    number: int
    prompt: str
    reason: str


# --- instructions and answers


def instruction_for(prompt: str) -> str:
    """Return the instruction for one prompt."""
    return INSTRUCTION.format(words=len(words_of(prompt)), prompt=prompt)


_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_LABEL = re.compile(
    r"\A[*_#\s]*(?:(?:sure|certainly|of course)[,.!]\s*)?(?:here(?: is|['\u2019]s)\s+)?"
    r"(?:(?:the|a|new|next|second|follow[- _]?up|video|shot)\s+)*"
    r"(?:follow[- _]?up|prompt|description|answer|output|response|text)[*_\s]*:[*_]*\s*",
    re.IGNORECASE,
)
_QUOTES = (
    ('"', '"'),
    ("\u201c", "\u201d"),
    ("\u2018", "\u2019"),
    ("\u00ab", "\u00bb"),
    ("\u300c", "\u300d"),
    ("'", "'"),
    ("`", "`"),
    ("**", "**"),
    ("*", "*"),
)


def read_answer(text: str) -> str:
    """Extract the follow-up from an answer: without thoughts, labels, quotes and emphasis, lines joined; may be empty.

    Paragraphs stay separated by a blank line, but a first paragraph that ends in a colon is dropped.
    """
    text = _THOUGHT.sub("", text)
    text = _THOUGHT_END.sub("", text).strip()  # the chat template may have opened the thought
    text = _FENCE.sub(r"\1", text)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    if len(paragraphs) > 1 and paragraphs[0].rstrip("*_ ").endswith(":"):
        paragraphs.pop(0)
    before, text = None, "\n\n".join(paragraphs)
    while text != before:
        before, text = text, _unquoted(_LABEL.sub("", text)).strip()
    return text


def _unquoted(text: str) -> str:
    for left, right in _QUOTES:
        inner = text[len(left) : -len(right)]
        if len(text) > len(left + right) and text == left + inner + right and left not in inner and right not in inner:
            return inner
    return text


# --- checking

# A Chinese or Japanese character counts as a word: those texts have no spaces, and Wan supports them.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|\w+")
_FILLERS = frozenset(
    [
        "about",
        "above",
        "after",
        "along",
        "also",
        "and",
        "are",
        "around",
        "before",
        "behind",
        "being",
        "below",
        "between",
        "but",
        "for",
        "from",
        "has",
        "have",
        "her",
        "his",
        "into",
        "its",
        "not",
        "off",
        "onto",
        "out",
        "over",
        "she",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "through",
        "toward",
        "towards",
        "under",
        "was",
        "were",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whose",
        "with",
        "within",
    ]
)


def words_of(text: str) -> list[str]:
    """Split into lower-case words; each Chinese or Japanese character is a word."""
    return _WORD.findall(text.casefold())


def content_words(text: str) -> set[str]:
    """Return a text's words without fillers, cut to five letters so that "walks" equals "walking"."""
    return {word[:5] for word in words_of(text) if word not in _FILLERS and (len(word) > 2 or not word.isascii())}


def fault_of(prompt: str, follow_up: str) -> str | None:
    """Return why a text cannot be a prompt's follow-up; None if no fault is found."""
    old, new = words_of(prompt), words_of(follow_up)
    if not new:
        return "the answer is empty"
    if "\n" in follow_up:
        return "the answer has more than one paragraph"
    if old == new:
        return "the answer repeats the prompt"
    longest = int(LONGEST * max(len(old), SHORT))
    if len(new) > longest:
        return f"the answer has {len(new)} words, the prompt {len(old)}; at most {longest} are allowed"
    wanted, shared = content_words(prompt), content_words(prompt) & content_words(follow_up)
    if len(shared) < SHARED * len(wanted):
        return f"the answer has {len(shared)} of the prompt's {len(wanted)} content words, so it shows something else"
    return None


# --- retries


def write_batch(prompts: Sequence[str], ask: Ask, seeds: Sequence[int]) -> tuple[list[str | None], list[str]]:
    """Write one follow-up per prompt, trying one seed after the other until all are valid.

    Returns:
        the follow-ups (None if no attempt was valid) and the last fault of each prompt ("" if it has a follow-up).
    """
    follow_ups: list[str | None] = [None] * len(prompts)
    faults = [""] * len(prompts)
    for seed in seeds:
        remaining = [place for place, text in enumerate(follow_ups) if text is None]
        if not remaining:
            break
        answers = ask([instruction_for(prompts[place]) for place in remaining], seed)
        for place, answer in zip(remaining, answers, strict=True):
            text = read_answer(answer.text)
            fault = fault_of(prompts[place], text) if answer.finished else UNFINISHED
            faults[place] = fault or ""
            follow_ups[place] = None if fault else text
    return follow_ups, faults


def attempt_seeds(seed: int, number: int, attempts: int) -> list[int]:
    """Return the seeds of a batch whose first prompt has this number in its file."""
    return [int(np.random.SeedSequence((seed, number, attempt)).generate_state(1)[0]) for attempt in range(attempts)]


def write_follow_ups(
    pairs: Sequence[PromptPair],
    places: Sequence[int],
    file: PairFile,
    ask: Ask,
    *,
    seed: int,
    batch: int,
    attempts: int,
) -> Iterator[tuple[int, list[Failure]]]:
    """Write the pairs at `places` to the file; after each batch, yield its number of prompts and the failures.

    A pair that already has a follow-up keeps it.
    """
    for start in range(0, len(places), batch):
        group = places[start : start + batch]
        missing = [place for place in group if pairs[place].follow_up is None]
        follow_ups, faults = write_batch(
            [pairs[place].prompt for place in missing], ask, attempt_seeds(seed, group[0], attempts)
        )
        answers = dict(zip(missing, follow_ups, strict=True))
        done = [PromptPair(pairs[place].prompt, pairs[place].follow_up or answers[place]) for place in group]
        file.add([pair for pair in done if pair.follow_up is not None])
        yield (
            len(group),
            [
                Failure(place + 1, pairs[place].prompt, fault)
                for place, fault in zip(missing, faults, strict=True)
                if fault
            ],
        )
