"""The export of Daydream Scope's timeline.

`{"prompts": [{"startTime", "endTime", "prompts": [{"text", "weight"}]}, ...], "settings", "version", "exportedAt"}`,
times in seconds. The settings describe a run of another engine and are not used; a hint says so.
"""

from __future__ import annotations

from ..folding import one_line
from ..options import make_segment
from ..syntax import Segment, Time, TimelineError
from .json_values import finite, kind_of, place_of

_HARMLESS_KEYS = {"prompts", "version", "exportedAt"}
_ENTRY_KEYS = {"startTime", "endTime", "prompts", "text", "id", "color", "isLive"}
_BLEND_KEYS = ("transitionSteps", "temporalInterpolationMethod")
# An export's first segment may start slightly after 0, by a rounding error.
_START_SECONDS = 0.05


def scope_segment(entry: dict, index: int, default: tuple[int, int]) -> Segment:
    """Read one entry of the export. default: line and column for messages about an entry without keys."""
    line, column = place_of(entry, default)
    start = _seconds(entry, "startTime", index, line, column)
    end = _seconds(entry, "endTime", index, line, column)
    if index == 1 and abs(start) < _START_SECONDS:
        start = 0.0
    if end <= start:
        raise TimelineError(f"entry {index} ends at {end:g} s, but starts at {start:g} s", line, column)
    text = _scope_text(entry, index, line, column)
    return make_segment(one_line(text), line, column, Time(seconds=start), Time(seconds=end))


def _seconds(entry: dict, key: str, index: int, line: int, column: int) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not finite(value):
        got = "is missing" if key not in entry else f"is {kind_of(value)}"
        raise TimelineError(f'"{key}" of entry {index} {got}; it must be a number of seconds', line, column)
    if value < 0:
        raise TimelineError(f'"{key}" of entry {index} is {value:g}; times cannot be negative', line, column)
    return float(value)


def _scope_text(entry: dict, index: int, line: int, column: int) -> str:
    """Return the one prompt of an entry that has all the weight."""
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
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not finite(weight) or weight < 0:
            what = f'the "weight" of a prompt of entry {index} must be a number from 0'
            raise TimelineError(what, line, column)
        if weight > 0:
            weighted.append(prompt["text"])
    if not weighted:
        raise TimelineError(f"no prompt of entry {index} has a weight above 0", line, column)
    if len(weighted) > 1:
        raise TimelineError(
            f"entry {index} blends {len(weighted)} prompts, which is not supported yet; give one of them all the "
            "weight",
            weighted[1].line,
            weighted[1].column,
        )
    return weighted[0]


def scope_hints(data: dict, entries: list[dict]) -> list[str]:
    """Return hints about what the export has and the film does not use."""
    hints = []
    unused = [key for key in data if key not in _HARMLESS_KEYS]
    if unused:
        hints.append(f"not used from the export: {', '.join(unused)}; set seed, size and steps here yourself")
    if any(entry.get("transitionSteps") for entry in entries):
        hints.append(
            "the export's gradual transitions (transitionSteps) are not used, so prompts switch at once; for a "
            "gradual transition write {blend=2s} at the end of the text"
        )
    unknown = {key: None for entry in entries for key in entry if key not in _ENTRY_KEYS and key not in _BLEND_KEYS}
    if unknown:
        hints.append(f"not used from the export's entries: {', '.join(unknown)}")
    return hints
