"""Timelines as JSON: LongLive's `{"prompts": ["...", ...]}` and the export of Daydream Scope's timeline.

Scope: `{"prompts": [{"startTime", "endTime", "prompts": [{"text", "weight"}]}, ...], "settings", "version",
"exportedAt"}`, times in seconds. Its settings describe another engine's run and are not taken over; a note says so.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from .options import make_segment
from .syntax import Segment, Time, TimelineError

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_HARMLESS_KEYS = {"prompts", "version", "exportedAt"}
_ENTRY_KEYS = {"startTime", "endTime", "prompts", "text", "id", "color", "isLive"}
_BLEND_KEYS = ("transitionSteps", "temporalInterpolationMethod")
# An export's first segment may begin a rounding error after 0.
_START_SECONDS = 0.05


class _Placed(str):
    """A string of the JSON text that remembers where it stands."""

    line: int
    column: int


def parse_json(text: str) -> tuple[list[Segment], str, list[str]]:
    """Read a JSON timeline. Returns the segments, the form ("json" or "scope") and notes for the user."""
    data = _load(text)
    if not isinstance(data, dict) or "prompts" not in data:
        raise TimelineError('the JSON has no "prompts"; write {"prompts": ["...", "..."]}', 1, 1)
    prompts = data["prompts"]
    line, column = _place(data)
    if not isinstance(prompts, list):
        raise TimelineError(f'"prompts" is a list of texts, not {_kind(prompts)}', line, column)
    if not prompts:
        raise TimelineError('the timeline is empty: "prompts" has no entry', line, column)
    if all(isinstance(prompt, str) for prompt in prompts):
        unknown = [key for key in data if key != "prompts"]
        if unknown:
            raise TimelineError(
                f'unknown key "{unknown[0]}"; a list of texts has only "prompts"', unknown[0].line, unknown[0].column
            )
        return [make_segment(_one_line(prompt), prompt.line, prompt.column) for prompt in prompts], "json", []
    _check_all_entries(prompts, (line, column))
    segments = [_scope_segment(entry, index, (line, column)) for index, entry in enumerate(prompts, 1)]
    return segments, "scope", _scope_notes(data, prompts)


def _check_all_entries(prompts: list, place: tuple[int, int]) -> None:
    """Not all are texts, so all must be objects; names the first entry that differs in kind from the first."""
    kind = str if isinstance(prompts[0], str) else dict
    for index, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, kind):
            if isinstance(prompt, str):
                place = (prompt.line, prompt.column)
            elif isinstance(prompt, dict):
                place = _place(prompt, place)
            raise TimelineError(
                f'entry {index} of "prompts" is {_kind(prompt)}; write only texts, or only entries with '
                '"startTime", "endTime" and "prompts"',
                *place,
            )


def _load(text: str) -> Any:
    """Parse JSON, with places attached to every string and JSON's own faults as TimelineError."""
    duplicates = []

    def pairs(items: list[tuple[str, Any]]) -> dict:
        keys = [key for key, _ in items]
        duplicates.extend(key for key in keys if keys.count(key) > 1)
        return dict(items)

    try:
        data = _with_places(json.loads(text, object_pairs_hook=pairs), _STRING.finditer(text), text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text[error.pos :].lstrip().startswith("{"):
            raise TimelineError(
                "a second film starts here (a .jsonl file has one a line); give one of them", error.lineno, error.colno
            ) from error
        raise TimelineError(
            f"this is not valid JSON ({error.msg}); a text that starts with '{{' is read as JSON",
            error.lineno,
            error.colno,
        ) from error
    except (ValueError, RecursionError) as error:
        raise TimelineError("this JSON is nested too deeply or has a number that is too long", 1, 1) from error
    if duplicates:
        raise TimelineError(f'the key "{duplicates[0]}" stands twice in one object', 1, 1)
    return data


def _with_places(value: Any, tokens: Any, text: str) -> Any:
    """The same value with every string, keys too, as _Placed: strings come in the order they stand in the text."""

    def placed(string: str) -> _Placed:
        start = next(tokens).start()
        result = _Placed(string)
        result.line = text.count("\n", 0, start) + 1
        result.column = start - text.rfind("\n", 0, start)
        return result

    if isinstance(value, dict):
        return {placed(key): _with_places(item, tokens, text) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_places(item, tokens, text) for item in value]
    return placed(value) if isinstance(value, str) else value


def _place(entry: dict, default: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Where an object stands: at its first key."""
    key = next(iter(entry), None)
    return default if key is None else (key.line, key.column)


def _scope_segment(entry: dict, index: int, default: tuple[int, int]) -> Segment:
    line, column = _place(entry, default)
    start = _seconds(entry, "startTime", index, line, column)
    end = _seconds(entry, "endTime", index, line, column)
    if index == 1 and abs(start) < _START_SECONDS:
        start = 0.0
    if end <= start:
        raise TimelineError(f"entry {index} ends at {end:g} s, but starts at {start:g} s", line, column)
    text = _scope_text(entry, index, line, column)
    return make_segment(_one_line(text), line, column, Time(seconds=start), Time(seconds=end))


def _seconds(entry: dict, key: str, index: int, line: int, column: int) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
        got = "is missing" if key not in entry else f"is {_kind(value)}"
        raise TimelineError(f'"{key}" of entry {index} {got}; it is a number of seconds', line, column)
    if value < 0:
        raise TimelineError(f'"{key}" of entry {index} is {value:g}; times are not negative', line, column)
    return float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _scope_text(entry: dict, index: int, line: int, column: int) -> str:
    """The one prompt of an entry that has all the weight."""
    prompts = entry.get("prompts")
    if prompts is None and isinstance(entry.get("text"), str):
        return entry["text"]
    if not isinstance(prompts, list) or not prompts:
        raise TimelineError(f'entry {index} has no "prompts"; it needs one with "text"', line, column)
    weighted = []
    for prompt in prompts:
        if not isinstance(prompt, dict) or not isinstance(prompt.get("text"), str):
            raise TimelineError(f'a prompt of entry {index} has no "text"', line, column)
        weight = prompt.get("weight", 100)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not _finite(weight) or weight < 0:
            raise TimelineError(f'the "weight" of a prompt of entry {index} is not a number from 0', line, column)
        if weight > 0:
            weighted.append(prompt["text"])
    if not weighted:
        raise TimelineError(f"no prompt of entry {index} has a weight above 0", line, column)
    if len(weighted) > 1:
        raise TimelineError(
            f"entry {index} blends {len(weighted)} prompts, which does not work yet; give one of them all the weight",
            weighted[1].line,
            weighted[1].column,
        )
    return weighted[0]


def _scope_notes(data: dict, entries: list[dict]) -> list[str]:
    notes = []
    left = [key for key in data if key not in _HARMLESS_KEYS]
    if left:
        notes.append(f"not taken over from the export: {', '.join(left)}; set seed, size and steps here yourself")
    if any(entry.get("transitionSteps") for entry in entries):
        notes.append(
            "the export's gradual transitions (transitionSteps) are not taken over, so prompts switch at once; for a "
            "gradual one write {blend=2s} at the end of its text"
        )
    unknown = {key: None for entry in entries for key in entry if key not in _ENTRY_KEYS and key not in _BLEND_KEYS}
    if unknown:
        notes.append(f"not taken over from the export's entries: {', '.join(unknown)}")
    return notes


def _one_line(text: str) -> str:
    """A prompt is one line of text everywhere else; line breaks inside a JSON string become spaces."""
    return re.sub(r"\s*[\r\n]+\s*", " ", text)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"the number {value}"[:40]
