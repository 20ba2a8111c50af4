"""Expectations in their files, and the comparison of results with them."""

from __future__ import annotations

import json
from typing import Any

from .record import EXPECTED, PARTS

# Kinds of CPU and numbers of threads differed by 0.000 and 1, see README.md. Latents spread over some 1 to 4.
LATENTS, PIXELS = 0.005, 3.0
AS = "as "  # before the way of making a film whose numbers are those of this one


def expected(part: str) -> dict[str, Any]:
    return json.loads((EXPECTED / f"{part}.json").read_text(encoding="utf-8"))


def write(made: dict[str, Any], parts: tuple[str, ...] = PARTS) -> None:
    for part in parts:
        value = shared(made[part]) if part == "numbers" else made[part]
        (EXPECTED / f"{part}.json").write_text(f"{_text(value)}\n", encoding="utf-8")


def differences(part: str, known: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """What is not as expected of a part, a line for each place."""
    if part == "numbers":
        return list(_number_differences(known, made))
    return list(_differences(part, known, made))


def shared(numbers: dict[str, Any]) -> dict[str, Any]:
    """Numbers of films, where those of several ways of making one stand there once."""
    kept: dict[str, Any] = {}
    for film, entries in numbers.items():
        kept[film] = {}
        for name, values in entries.items():
            alike = (
                other
                for other, known in kept[film].items()
                if _kind(other) == _kind(name) and not isinstance(known, str) and not _far(name, known, values)
            )
            first = next(alike, None)
            kept[film][name] = values if first is None else f"{AS}{first}"
    return kept


def largest(known: dict[str, Any], made: dict[str, Any]) -> dict[str, float]:
    """The largest difference of latents, and that of pixels."""
    most = {"latents": 0.0, "frames": 0.0}
    for film, entries in known.items():
        for name, values in entries.items():
            most[_kind(name)] = max(most[_kind(name)], _distance(_of(entries, values), made[film][name]))
    return most


def _number_differences(known: dict[str, Any], made: dict[str, Any]):
    yield from _differences("numbers", _names(known), _names(made))
    for film in known.keys() & made.keys():
        for name in known[film].keys() & made[film].keys():
            values = _of(known[film], known[film][name])
            if far := _far(name, values, made[film][name]):
                yield f"numbers of '{film}', {name}: {far}"


def _names(numbers: dict[str, Any]) -> dict[str, list[str]]:
    return {film: sorted(entries) for film, entries in numbers.items()}


def _of(entries: dict[str, Any], values: Any) -> Any:
    return entries[values.removeprefix(AS)] if isinstance(values, str) else values


def _kind(name: str) -> str:
    return name.rpartition(" ")[2]


def _far(name: str, one: list, other: list) -> str | None:
    """How far two lists of numbers are apart, where that is more than kinds of CPU are."""
    distance, allowed = _distance(one, other), LATENTS if _kind(name) == "latents" else PIXELS
    return None if distance <= allowed else f"they differ by {distance:.3g}; {allowed:g} is allowed"


def _distance(one: list, other: list) -> float:
    if [row and len(row) for row in one] != [row and len(row) for row in other]:
        return float("inf")
    pairs = zip(
        (number for row in one for number in row or ()), (number for row in other for number in row or ()), strict=True
    )
    return max((abs(a - b) for a, b in pairs), default=0.0)


def _differences(place: str, known: Any, made: Any):
    if isinstance(known, dict) and isinstance(made, dict):
        for name in [*known, *(name for name in made if name not in known)]:
            if name not in made:
                yield f"{place} / {name}: is gone"
            elif name not in known:
                yield f"{place} / {name}: is new: {_short(made[name])}"
            else:
                yield from _differences(f"{place} / {name}", known[name], made[name])
    elif isinstance(known, list) and isinstance(made, list) and len(known) == len(made):
        for at, (one, other) in enumerate(zip(known, made, strict=True)):
            yield from _differences(f"{place} [{at}]", one, other)
    elif known != made or type(known) is not type(made):
        yield f"{place}: was {_short(known)}, is {_short(made)}"


def _short(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False)
    return said if len(said) <= 200 else f"{said[:200]}..."


def _text(value: Any, depth: int = 0) -> str:
    """Format JSON so that a change shows in few lines: what fits into a line is on one."""
    flat, pad = json.dumps(value, ensure_ascii=False), " " * (depth + 1)
    if len(flat) + depth <= 118 or not isinstance(value, (dict, list)):
        return flat
    if isinstance(value, dict):
        parts = [f"{json.dumps(name, ensure_ascii=False)}: {_text(each, depth + 1)}" for name, each in value.items()]
    else:
        parts = [_text(each, depth + 1) for each in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    return start + "".join(f"\n{pad}{part}," for part in parts).removesuffix(",") + f"\n{' ' * depth}{end}"
