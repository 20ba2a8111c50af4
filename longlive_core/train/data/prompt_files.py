"""Training prompts: their files, and an endless draw that needs no state to resume.

A prompt may have a follow-up: what the film shows after the prompt switch. The short distillation needs only prompts,
streaming long tuning needs pairs. File formats: docs/training-data.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .shuffling import Epochs, first_place

PROMPT, FOLLOW_UP = "prompt", "follow_up"
LONGLIVE_FOLLOW_UP, LONGLIVE_SEGMENTS = "switch_prompt", "prompts"  # LongLive's keys for the same
KEYS = (PROMPT, FOLLOW_UP, LONGLIVE_FOLLOW_UP, LONGLIVE_SEGMENTS)
COMMENT = "#"
TEXT, JSON_LINES = ".txt", ".jsonl"


@dataclass(frozen=True)
class PromptPair:
    """A film's prompt, and its prompt after the switch (None: not known)."""

    prompt: str
    follow_up: str | None = None


# --- files


def read_prompts(path: str | os.PathLike, follow_ups: str | os.PathLike | None = None) -> list[PromptPair]:
    """Read the prompts of a file, in order.

    Args:
        path: `.txt`, one prompt per line (blank lines and lines that start with `#` are skipped), or `.jsonl`, one
            object per line: `{"prompt": ..., "follow_up": ...}`, the follow-up optional.
        follow_ups: a second `.txt` whose line n is the follow-up of line n of the first (as LongLive's training reads
            its two files, `data_path` and `switch_prompt_path`).

    Raises:
        ValueError: with file and line, if the file is invalid or holds no prompt.
    """
    path = Path(path)
    if follow_ups is not None:
        pairs = _read_two(path, Path(follow_ups))
    elif _form(path) == TEXT:
        pairs = [PromptPair(line) for _, line in _text_lines(path) if line is not None]
    else:
        pairs = [
            parse_line(line, f"{path}, line {number}") for number, line in enumerate(_lines(path), 1) if line.strip()
        ]
    if not pairs:
        raise ValueError(f"'{path}' holds no prompts; write one per line")
    return pairs


def parse_line(line: str, where: str) -> PromptPair:
    """Parse one line of a `.jsonl`. ValueError that begins with `where`."""
    try:
        entry = json.loads(line, object_pairs_hook=_unique)
    except ValueError as error:
        raise ValueError(f'{where}: {_json_fault(error)}; write {{"prompt": "...", "follow_up": "..."}}') from error
    if not isinstance(entry, dict):
        raise ValueError(f'{where}: {_kind(entry)} where an object is expected, such as {{"prompt": "..."}}')
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise ValueError(f'{where}: unknown key "{unknown[0]}"; allowed are: {", ".join(KEYS)}')
    if LONGLIVE_SEGMENTS in entry:
        return _pair_of_segments(entry, where)
    if PROMPT not in entry:
        raise ValueError(f'{where}: "{PROMPT}" is missing')
    if FOLLOW_UP in entry and LONGLIVE_FOLLOW_UP in entry:
        raise ValueError(f'{where}: "{FOLLOW_UP}" and "{LONGLIVE_FOLLOW_UP}" mean the same; use one of them')
    second = FOLLOW_UP if FOLLOW_UP in entry else LONGLIVE_FOLLOW_UP
    follow_up = None if entry.get(second) is None else _words(entry[second], second, where)
    return PromptPair(_words(entry[PROMPT], PROMPT, where), follow_up)


def to_line(pair: PromptPair) -> str:
    """Format a pair as a line of a `.jsonl`, with the newline."""
    entry = {PROMPT: pair.prompt} | ({} if pair.follow_up is None else {FOLLOW_UP: pair.follow_up})
    return json.dumps(entry, ensure_ascii=False) + "\n"


def require_follow_ups(pairs: Sequence[PromptPair], source: str | os.PathLike) -> None:
    """Raise ValueError unless every prompt has a follow-up; `source` names their file."""
    missing = sum(pair.follow_up is None for pair in pairs)
    if missing:
        raise ValueError(
            f"{missing} of {len(pairs)} prompts of '{source}' have no follow-up, but training with "
            f"switches needs them; write them with: python -m longlive_core follow-ups {source} "
            "--model FOLDER --out pairs.jsonl"
        )


def decode(data: bytes, path: Path) -> str:
    """Decode UTF-8 text. ValueError with the line of the first invalid byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        content = error.object  # without a byte order mark
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
        ) from error


def _form(path: Path) -> str:
    form = path.suffix.lower()
    if form not in (TEXT, JSON_LINES):
        raise ValueError(f"'{path}' ends in '{path.suffix}'; prompts are read from {TEXT} (lines) and {JSON_LINES}")
    return form


def _lines(path: Path) -> list[str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the prompts '{path}': {error.strerror}") from error
    # Not splitlines(): it also splits at characters that may be part of a prompt, such as U+2028.
    return decode(data, path).split("\n")


def _text_lines(path: Path) -> list[tuple[int, str | None]]:
    """Return (line number, prompt) of each line, with None for skipped lines and without trailing blank lines."""
    lines = [line.strip() for line in _lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return [(number, None if not line or line.startswith(COMMENT) else line) for number, line in enumerate(lines, 1)]


def _read_two(path: Path, other: Path) -> list[PromptPair]:
    """Read two files line by line; skipping blank lines in each alone could silently shift one against the other."""
    for file in (path, other):
        if _form(file) != TEXT:
            raise ValueError(
                f"'{file}': a file of follow-ups goes with a file of prompts, both {TEXT}; a {JSON_LINES} "
                "contains its follow-ups"
            )
    first, second = _text_lines(path), _text_lines(other)
    if len(first) != len(second):
        raise ValueError(
            f"'{path}' has {len(first)} lines and '{other}' has {len(second)}; line n of one belongs to "
            "line n of the other, so the numbers must be equal"
        )
    pairs = []
    for (number, prompt), (_, follow_up) in zip(first, second, strict=True):
        if (prompt is None) != (follow_up is None):
            file, twin = (path, other) if prompt is None else (other, path)
            raise ValueError(f"{file}, line {number}: no text, but line {number} of '{twin}' has one")
        if prompt is not None:
            pairs.append(PromptPair(prompt, follow_up))
    return pairs


def _pair_of_segments(entry: dict, where: str) -> PromptPair:
    """Parse LongLive's `{"prompts": [first, second]}`."""
    segments = entry[LONGLIVE_SEGMENTS]
    if len(entry) > 1:
        raise ValueError(f'{where}: "{LONGLIVE_SEGMENTS}" holds prompt and follow-up; no other key is allowed with it')
    if not isinstance(segments, list) or not 1 <= len(segments) <= 2:
        got = f"{len(segments)} entries" if isinstance(segments, list) else _kind(segments)
        raise ValueError(f'{where}: "{LONGLIVE_SEGMENTS}" is a list of a prompt and at most one follow-up, not {got}')
    return PromptPair(*(_words(text, LONGLIVE_SEGMENTS, where) for text in segments))


def _words(value, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'{where}: "{key}" must be a text, not {_kind(value)}')
    text = value.strip()
    if not text:
        raise ValueError(f'{where}: "{key}" is empty')
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can write half of a character: "\ud83d"
        raise ValueError(f'{where}: "{key}" holds half of a character (\\u{ord(text[error.start]):04x})') from error
    return text


def _unique(entries: list[tuple[str, object]]) -> dict:
    keys = [key for key, _ in entries]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f'"{twice}" occurs twice in one object')
    return dict(entries)


def _json_fault(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg}, column {error.colno})"
    return str(error)


def _kind(value) -> str:
    return {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
    }[type(value)]


# --- drawing


class PromptStream:
    """Endless prompts in shuffled epochs.

    A draw depends only on seed, step, count, rank and ranks, so a resumed training needs only its step. The
    concatenated draws of all ranks at a step equal the draw of a single rank with `count * ranks`.
    """

    def __init__(self, pairs: Sequence[PromptPair], seed: int):
        if not pairs:
            raise ValueError("there are no prompts to draw from; pass at least one")
        self.pairs, self.epochs = list(pairs), Epochs(len(pairs), seed)

    def draw(self, step: int, count: int, rank: int = 0, ranks: int = 1) -> list[PromptPair]:
        """Return a rank's `count` pairs at a step. ValueError for a negative step, a count below 1, or no such rank."""
        start = first_place(step, count, rank, ranks)
        return [self.pairs[self.epochs[place]] for place in range(start, start + count)]
