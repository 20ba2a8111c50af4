"""Follow-ups written by an instruction model: what it is asked, how its answer is read and checked, and asked again.

LongLive's long tuning switches from a prompt to a follow-up in the middle of a film, and the paper lets a language
model write those follow-ups, under constraints: subject, setting and camera stay, one thing is new. The wording here is
our own. The model itself is behind a function (`Ask`); `instruction_model` makes one from transformers.
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

LONGEST = 2.0  # times the prompt's length
SHORT = 10  # words; of a shorter prompt, twice the length would leave no room for a new action
UNFINISHED = "the answer did not end within its tokens (raise --max-tokens if the model thinks for long)"
SHARED = 0.3  # of the prompt's content words; low, for models that reword: it catches other scenes, not small drifts


@dataclass(frozen=True)
class Answer:
    """What a model wrote; finished: it ended by itself, not at the limit of tokens."""

    text: str
    finished: bool = True


Ask = Callable[[Sequence[str], int], Sequence[Answer]]
"""(instructions, seed) -> one answer each; the same arguments give the same answers."""


@dataclass(frozen=True)
class Failure:
    """A prompt that has no follow-up after all attempts: its number in the file, from 1, and the last fault."""

    number: int
    prompt: str
    reason: str


# --- asking and reading


def instruction_for(prompt: str) -> str:
    """What the model is asked for one prompt."""
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
    """The follow-up in an answer: without thoughts, labels, quotes, emphasis; its lines as one. Empty: there is none.

    Paragraphs stay apart (a blank line), but an announcement that ends in a colon is dropped.
    """
    text = _THOUGHT.sub("", text)
    text = _THOUGHT_END.sub("", text).strip()  # a template may have opened the thought already
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

# A character of Chinese or Japanese is a word: those texts have no spaces, and Wan reads them.
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
    """Lower-case words; a Chinese or Japanese character is one of its own."""
    return _WORD.findall(text.casefold())


def content_words(text: str) -> set[str]:
    """What a text is about: its words without the small ones, cut to five letters so that walks is walking."""
    return {word[:5] for word in words_of(text) if word not in _FILLERS and (len(word) > 2 or not word.isascii())}


def fault_of(prompt: str, follow_up: str) -> str | None:
    """Why a text cannot be a prompt's follow-up; None: nothing is seen that speaks against it."""
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


# --- asking again


def write_batch(prompts: Sequence[str], ask: Ask, seeds: Sequence[int]) -> tuple[list[str | None], list[str]]:
    """One follow-up for each prompt, asked for with one seed after the other until all are good.

    Returns:
        the follow-ups (None where no attempt was good) and the last fault of each prompt ("" where there is none left).
    """
    found: list[str | None] = [None] * len(prompts)
    faults = [""] * len(prompts)
    for seed in seeds:
        open_ones = [place for place, text in enumerate(found) if text is None]
        if not open_ones:
            break
        answers = ask([instruction_for(prompts[place]) for place in open_ones], seed)
        for place, answer in zip(open_ones, answers, strict=True):
            text = read_answer(answer.text)
            fault = fault_of(prompts[place], text) if answer.finished else UNFINISHED
            faults[place] = fault or ""
            found[place] = None if fault else text
    return found, faults


def attempt_seeds(seed: int, number: int, attempts: int) -> list[int]:
    """Seeds of their own for a batch whose first prompt is the number-th of its file."""
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
    """Write the pairs at `places` to the file; after each batch, yield its number of prompts and those that failed.

    A pair that has a follow-up already keeps it, and the model is not asked.
    """
    for start in range(0, len(places), batch):
        group = places[start : start + batch]
        asked = [place for place in group if pairs[place].follow_up is None]
        found, faults = write_batch(
            [pairs[place].prompt for place in asked], ask, attempt_seeds(seed, group[0], attempts)
        )
        answers = dict(zip(asked, found, strict=True))
        done = [PromptPair(pairs[place].prompt, pairs[place].follow_up or answers[place]) for place in group]
        file.add([pair for pair in done if pair.follow_up is not None])
        yield (
            len(group),
            [
                Failure(place + 1, pairs[place].prompt, fault)
                for place, fault in zip(asked, faults, strict=True)
                if fault
            ],
        )
