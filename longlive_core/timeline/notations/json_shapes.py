"""Timelines in JSON, of LongLive and of other tools: decides which shape a text has.

{"prompts": ["...", "..."]}    ["...", "..."]                          split evenly
{"0": "...", "16": "..."}      "0": "...", "16": "..."                 schedules (schedules.py)
[{"time": 0, "prompt": "..."}] {"shots": [{"duration": 5, ...}]}       objects (objects.py)
{"prompts": [{"startTime": 0, "endTime": 5, "prompts": [...]}]}        Scope's export (scope.py)
"""

from __future__ import annotations

import re
from typing import Any

from ..folding import fold, one_line
from ..options import make_segment
from ..syntax import Segment, TimelineError
from .json_values import kind_of, place_of, read_json
from .objects import has_time, read_objects
from .schedules import is_schedule, read_schedule
from .scope import scope_hints, scope_segment

_FORMS = '{"prompts": ["...", "..."]}, [{"time": "5s", "prompt": "..."}] or {"0": "...", "16": "..."} (frames)'
# Keys under which other tools keep their list; the first one found is used.
_LISTS = (
    "prompt_map",
    "prompt_schedule",
    "schedule",
    "animation_prompts",
    "timeline",
    "shots",
    "scenes",
    "segments",
    "clips",
    "storyboard",
    "keyframes",
    "entries",
    "sections",
    "cues",
    "events",
    "items",
    "steps",
    "sequence",
    "beats",
    "data",
    "captions",
    "texts",
    "prompt_list",
    "multi_prompt",
    "multi_shot_prompts",
    "multishot",
    "frames",
    "prompt",
)
_ASSIGNED = r"(?:(?:const|let|var)\s+)?[A-Za-z_]\w*\s*=\s*(?=[\[{(])"
_QUOTE = r"[\"'`]"
_TIME_ONLY = r"\s*[0-9.:]+\s*[a-zA-Z]*\s*(?:-\s*[0-9.:]+\s*[a-zA-Z]*\s*)?\}"  # {0s-5s} text
_COMMENTS = r"(?:\s*(?://|\#)[^\n]*\n)*"
_BEGINS = re.compile(
    rf"{_COMMENTS}\s*({_ASSIGNED})?(?:\{{(?!{_TIME_ONLY})|\[\s*(?:\"|\{{|[\[(]\s*[\"'0-9])|\[\s*'[^'\n]*'\s*[,\]]|\[\s*\]\s*$"
    r"|\(\s*(\"|')[^\n]*\2\s*,.*\)\s*$)",
    re.DOTALL,
)
_FULL_WIDTH_TEXT = re.compile("\uff5b(?!\\s*[\"'\u2018-\u201f\uff02\uff07])")
_MEMBERS = re.compile(rf"\s*({_QUOTE})[^\"'`\n]{{1,40}}\1\s*[:=]>?\s*(?:[\"'\[{{`]|[0-9])")
_ITEM = re.compile(r"\s*(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')\s*(,?)\s*")


def is_json(text: str) -> bool:
    """Return whether a text is read as JSON."""
    return _start_of(text) is not None


def _start_of(text: str) -> tuple[int, str] | None:
    """Return where the JSON starts and the bracket missing around it, or None for a text that is not JSON."""
    folded = fold(text)
    match = _BEGINS.match(folded.text)
    if match and not _FULL_WIDTH_TEXT.match(text, folded.at[match.start() + len(match[0]) - len(match[0].lstrip())]):
        return folded.at[match.end(1)] if match[1] else 0, ""
    if _MEMBERS.match(folded.text):
        return 0, "{"
    items = [_ITEM.fullmatch(line) for line in folded.text.split("\n") if line.strip()]
    if len(items) > 1 and all(items) and all(item[1] for item in items[:-1]):
        return 0, "["
    return None


def parse_json(text: str) -> tuple[list[Segment], str, list[str]]:
    """Read a timeline in JSON. Return the segments, the notation (json, entries or scope) and hints for the user."""
    values = read_json(text, *_start_of(text))
    if len(values) > 1:
        if not (all(isinstance(value, dict) for value in values) and all(has_time(value) for value in values)):
            raise TimelineError(
                "a second film starts here (a .jsonl file has one film per line); give only one",
                *place_of_start(values[1]),
            )
        return read_objects(values, (1, 1))
    data = values[0]
    if isinstance(data, list):
        return _read_list(data, (1, 1), "the list")
    return _read_object(data)


def place_of_start(value: dict) -> tuple[int, int]:
    """Return line and column where an object starts, as near as its first key shows."""
    line, column = place_of(value)
    return line, max(1, column - 1)


def _read_object(data: dict) -> tuple[list[Segment], str, list[str]]:
    if "prompts" in data:
        return _read_prompts(data)
    if is_schedule(data):
        return read_schedule(data)
    if has_time(data) or isinstance(data.get("prompt"), str):
        return read_objects([data], place_of(data))
    named = next((key for name in _LISTS for key in data if key.lower() == name), None)
    if (
        named is None
        or not isinstance(data[named], (list, dict))
        or (named.lower() == "prompt" and not _map(data[named]))
    ):
        raise TimelineError(f'the JSON has no "prompts"; write {_FORMS}', 1, 1)
    place = named.line, named.column
    if isinstance(data[named], dict):
        segments, notation, hints = read_schedule(data[named], place)
    else:
        segments, notation, hints = _read_list(data[named], place, f'"{named}"')
    return segments, notation, [*hints, *_unused(data, named)]


def _map(value: Any) -> bool:
    return isinstance(value, dict) and is_schedule(value)


def _unused(data: dict, used: str) -> list[str]:
    unused = [key for key in data if key != used and data[key] not in (None, "", [], {})]
    if not unused:
        return []
    return [
        f"not used from the JSON: {', '.join(unused)}; to put a text before every prompt, write a line '* text' "
        "before the JSON"
    ]


def _read_prompts(data: dict) -> tuple[list[Segment], str, list[str]]:
    prompts = data["prompts"]
    place = place_of(data)
    if isinstance(prompts, dict):
        segments, notation, hints = read_schedule(prompts, place)
        return segments, notation, [*hints, *_unused(data, "prompts")]
    if not isinstance(prompts, list):
        raise TimelineError(f'"prompts" must be a list of texts, not {kind_of(prompts)}', *place)
    if not prompts:
        raise TimelineError('the timeline is empty: "prompts" has no entry', *place)
    if all(isinstance(prompt, str) for prompt in prompts):
        unknown = [key for key in data if key != "prompts"]
        if unknown:
            raise TimelineError(
                f'unknown key "{unknown[0]}"; with a list of texts, "prompts" is the only key',
                unknown[0].line,
                unknown[0].column,
            )
        return _read_list(prompts, place, '"prompts"')
    _check_same_kind(prompts, place, '"prompts"')
    if isinstance(prompts[0], dict) and any(_of_scope(entry) for entry in prompts):
        segments = [scope_segment(entry, index, place) for index, entry in enumerate(prompts, 1)]
        return segments, "scope", scope_hints(data, prompts)
    segments, notation, hints = _read_list(prompts, place, '"prompts"')
    return segments, notation, [*hints, *_unused(data, "prompts")]


def _of_scope(entry: dict) -> bool:
    return "prompt" not in entry and (isinstance(entry.get("prompts"), list) or "endTime" in entry)


def _read_list(values: list, place: tuple[int, int], name: str) -> tuple[list[Segment], str, list[str]]:
    if not values:
        raise TimelineError("the timeline is empty: the list has no entry", *place)
    _check_same_kind(values, place, name)
    if isinstance(values[0], str):
        return [make_segment(one_line(text), text.line, text.column) for text in values], "json", []
    if isinstance(values[0], dict):
        return read_objects(values, place)
    return read_objects([_pair(value, index, place) for index, value in enumerate(values, 1)], place)


def _pair(value: list, index: int, place: tuple[int, int]) -> dict:
    """Return `["5s", "text"]` or `["0s", "5s", "text"]` as an object."""
    if len(value) not in (2, 3) or not isinstance(value[-1], str) or any(isinstance(v, (list, dict)) for v in value):
        raise TimelineError(f"entry {index} is a list, but not of a time and its prompt; write {_FORMS}", *place)
    text = value[-1]
    if any(not isinstance(time, str) for time in value[:-1]):
        raise TimelineError(
            f'the time {value[0]} of entry {index} has no unit; write "{value[0]}s" or "{value[0]}f" (frames)',
            text.line,
            text.column,
        )
    names = ("time", "prompt") if len(value) == 2 else ("start", "end", "prompt")
    keys = []
    for name in names:
        key = type(text)(name)
        key.line, key.column = text.line, text.column
        keys.append(key)
    return dict(zip(keys, value, strict=True))


def _check_same_kind(values: list, place: tuple[int, int], name: str) -> None:
    """Raise TimelineError for the first entry of another kind than entry 1."""
    kind = next((kind for kind in (str, dict, list) if isinstance(values[0], kind)), dict)
    for index, value in enumerate(values, 1):
        if isinstance(value, kind):
            continue
        if isinstance(value, str):
            place = (value.line, value.column)
        elif isinstance(value, dict):
            place = place_of(value, place)
        raise TimelineError(
            f"entry {index} of {name} is {kind_of(value)}; write only texts, or only objects: {_FORMS}", *place
        )
