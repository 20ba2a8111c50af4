"""Checks of plain data that anybody may have written: what a field has to be, as a table that reads like its file.

A check is called with a value and the name to say; it raises WrongField where the value is not what it should be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from reprlib import Repr
from typing import Any

Check = Callable[[Any, str], None]

_LONGEST_NUMBER = 40  # characters: no number that is stored here needs more
_SHOWN = Repr()
_SHOWN.maxstring = _SHOWN.maxother = 40


class WrongField(ValueError):
    """A value that is not what it should be; the message names field, value and what is allowed."""


class UnknownField(WrongField):
    """A field that there is not, such as one of a later version."""


def read_json(data: bytes) -> Any:
    """Parsed JSON, stricter than Python's: UTF-8 without a mark, finite numbers, no name twice, not nested too deep.

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
        raise ValueError("it is nested too deep") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{shown(next(name for name in names if names.count(name) > 1))} stands there twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _short(kind: type) -> Callable[[str], int | float]:
    """Python takes long for the digits of long numbers, or refuses them."""

    def read(digits: str) -> int | float:
        if len(digits) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(digits)} characters")
        return kind(digits)

    return read


def shown(value: Any) -> str:
    """A value of any size and depth in a message."""
    return _SHOWN.repr(value)


def number(least: float, most: float) -> Check:
    """A finite number in the range, whole or not."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:  # NaN too
            raise WrongField(f"{where} is {shown(value)}: a number from {least:g} to {most:g}")

    return check


def whole(least: int, most: int) -> Check:
    """A whole number in the range."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise WrongField(f"{where} is {shown(value)}: a whole number from {least} to {most}")

    return check


def text(most: int, pattern: str | None = None, what: str = "") -> Check:
    """A text of at most so many characters that UTF-8 can hold. pattern: of all of it, in ASCII; what: in words."""
    form = None if pattern is None else re.compile(pattern)

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str):
            raise WrongField(f"{where} is {shown(value)}: a text")
        if len(value) > most:
            raise WrongField(f"{where} has {len(value)} characters: at most {most}")
        if form is not None:
            if form.fullmatch(value) is None:
                raise WrongField(f"{where} is {shown(value)}: {what}")
            return
        try:
            value.encode()
        except UnicodeEncodeError:
            raise WrongField(f"{where} has half a character in it, which is no text") from None

    return check


def one_of(*values: str) -> Check:
    """One of these texts."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or value not in values:
            raise WrongField(f"{where} is {shown(value)}: one of {', '.join(values)}")

    return check


def items(each: Check, least: int, most: int) -> Check:
    """A list of so many."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise WrongField(f"{where} is {shown(value)}: a list")
        if not least <= len(value) <= most:
            raise WrongField(f"{where} has {len(value)} entries: {least} to {most}")
        for place, entry in enumerate(value):
            try:
                each(entry, where)
            except WrongField:
                each(entry, f"{where}[{place}]")  # names are made for those alone: lists may be long

    return check


def record(needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields and no others."""
    known = {**needed, **(optional or {})}

    def check(value: Any, where: str) -> None:
        inside = f"{where}." if where else ""
        if not isinstance(value, dict):
            raise WrongField(f"{where or 'it'} is {shown(value)}: an object")
        for name in needed:
            if name not in value:
                raise WrongField(f"{inside}{name} is missing")
        for name in value:
            if name not in known:
                raise UnknownField(f"{shown(inside + name)} is no field that this version knows")
        for name, entry in value.items():
            known[name](entry, inside + name)

    return check
