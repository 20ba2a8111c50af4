"""Checks of untrusted plain data: the expected fields, as a table that reads like the file.

A check is called with a value and its name in messages; it raises WrongField if the value is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from reprlib import Repr
from typing import Any

Check = Callable[[Any, str], None]

_LONGEST_NUMBER = 40  # characters: no stored number needs more
_REPR = Repr()
_REPR.maxstring = _REPR.maxother = 40


class WrongField(ValueError):
    """A wrong value; the message names the field, the value and what is allowed."""


class UnknownField(WrongField):
    """An unknown field, such as one of a later version."""


def read_json(data: bytes) -> Any:
    """Parse JSON more strictly than Python: UTF-8 without a BOM, finite numbers, no duplicate names, limited nesting.

    ValueError for everything else.
    """
    try:
        return json.loads(
            data.decode(),
            object_pairs_hook=_without_doubles,
            parse_constant=_refuse_constant,
            parse_int=_short(int),
            parse_float=_short(float),
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{short_repr(next(name for name in names if names.count(name) > 1))} is a duplicate")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _short(kind: type) -> Callable[[str], int | float]:
    """Return a parser that refuses long numbers, which Python parses slowly or refuses itself."""

    def read(digits: str) -> int | float:
        if len(digits) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(digits)} characters")
        return kind(digits)

    return read


def short_repr(value: Any) -> str:
    """Return a short text for a value of any size and depth, for messages."""
    return _REPR.repr(value)


def number(least: float, most: float) -> Check:
    """Return a check for a finite number in the range, an integer or not."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN too
            raise WrongField(f"{where} is {short_repr(value)}: a number from {least:g} to {most:g}")

    return check


def whole(least: int, most: int) -> Check:
    """Return a check for an integer in the range."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise WrongField(f"{where} is {short_repr(value)}: a whole number from {least} to {most}")

    return check


def text(most: int, pattern: str | None = None, what: str = "") -> Check:
    """Return a check for a text of at most `most` characters that UTF-8 can encode.

    pattern: a regular expression for the whole text, which is then ASCII. what: the pattern in words.
    """
    form = None if pattern is None else re.compile(pattern)

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str):
            raise WrongField(f"{where} is {short_repr(value)}: a text")
        if len(value) > most:
            raise WrongField(f"{where} has {len(value)} characters: at most {most}")
        if form is not None:
            if form.fullmatch(value) is None:
                raise WrongField(f"{where} is {short_repr(value)}: {what}")
            return
        try:
            value.encode()
        except UnicodeEncodeError:
            raise WrongField(f"{where} contains half of a surrogate pair, which is not text") from None

    return check


def one_of(*values: str) -> Check:
    """Return a check for one of these texts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise WrongField(f"{where} is {short_repr(value)}: one of {', '.join(values)}")

    return check


def items(each: Check, least: int, most: int) -> Check:
    """Return a check for a list of `least` to `most` entries."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise WrongField(f"{where} is {short_repr(value)}: a list")
        if not least <= len(value) <= most:
            raise WrongField(f"{where} has {len(value)} entries: {least} to {most}")
        for index, entry in enumerate(value):
            try:
                each(entry, where)
            except WrongField:
                each(entry, f"{where}[{index}]")  # format the name only on an error: lists may be long

    return check


def record(needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Return a check for an object with these fields and no others."""
    known = {**needed, **(optional or {})}

    def check(value: Any, where: str) -> None:
        inside = f"{where}." if where else ""
        if not isinstance(value, dict):
            raise WrongField(f"{where or 'it'} is {short_repr(value)}: an object")
        for name in needed:
            if name not in value:
                raise WrongField(f"{inside}{name} is missing")
        for name in value:
            if name not in known:
                raise UnknownField(f"{short_repr(inside + name)} is not a field known to this version")
        for name, entry in value.items():
            known[name](entry, inside + name)

    return check
