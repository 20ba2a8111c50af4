"""A lenient JSON reader: trailing commas, comments, single or curly quotes, keys without quotes, a missing brace.

Valid JSON gives the same values as json.loads. Strings, including keys, remember their line and column.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from typing import Any

from ...words.visible import is_invisible
from ..folding import fold_char
from ..syntax import TimelineError

_DEEPEST = 60
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_$][\w$-]*")
_WORDS = {
    "true": True,
    "false": False,
    "null": None,
    "True": True,
    "False": False,
    "None": None,
    "undefined": None,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
_COMMENT = re.compile(r"(?:#|//)[^\n]*|/\*.*?\*/", re.DOTALL)
_QUOTES = {
    '"': '"',
    "'": "'",
    "`": "`",
    "\u201c": "\u201d\u201c\u201f",
    "\u201d": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u2018": "\u2019\u2018",
    "\u2019": "\u2019",
    "\u00ab": "\u00bb",
    "\uff02": "\uff02",
}
_CLOSING = {"{": "}", "[": "]", "(": ")"}


class Placed(str):
    """A string of the JSON text with its place; line and column count from 1."""

    line: int
    column: int
    quoted: bool = True


def read_json(text: str, start: int = 0, bracket: str = "") -> list[Any]:
    """Return the values in a text, one after the other: one, or those of a .jsonl file.

    start: index of the first. bracket: `{` or `[` if the text is what belongs inside one. Objects become dicts with
    `Placed` keys, tuples become lists. Raises TimelineError.
    """
    reader = _Reader(text, start, unbraced=bool(bracket))
    if bracket:
        values = [reader.members("}", 1) if bracket == "{" else reader.items("]", 1)]
    else:
        values = [reader.value(0)]
    while reader.peek():
        if reader.peek() in ",;":
            reader.at += 1
        elif reader.peek() == "{" and isinstance(values[0], dict):
            values.append(reader.value(0))
        else:
            raise reader.error("Extra data", reader.at)
    return values


class _Reader:
    def __init__(self, text: str, at: int, unbraced: bool):
        self.text, self.at, self.unbraced = text, at, unbraced
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, at: int) -> tuple[int, int]:
        """Return line and column of an index."""
        line = bisect_right(self.starts, at)
        return line, at - self.starts[line - 1] + 1

    def error(self, what: str, at: int) -> TimelineError:
        how = "with '{'" if self.text.lstrip().startswith("{") else "like this"
        hint = f"a text that starts {how} is read as JSON"
        return TimelineError(f"this is not valid JSON ({what}); {hint}", *self.place(at))

    def peek(self) -> str:
        """Skip spaces and comments. Return the next character, folded, or "" at the end."""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char.isspace() or is_invisible(char):
                self.at += 1
            elif comment := _COMMENT.match(self.text, self.at):
                self.at = comment.end()
            else:
                return char if char in _QUOTES else fold_char(char) or char
        return ""

    def value(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise TimelineError("this JSON is nested too deeply", *self.place(self.at))
        char = self.peek()
        if char == "{":
            self.at += 1
            return self.members("}", depth + 1)
        if char and char in "[(":
            self.at += 1
            return self.items(_CLOSING[char], depth + 1)
        if char in _QUOTES:
            return self.string()
        if match := _NUMBER.match(self.text, self.at):
            return self.number(match)
        word = re.compile(r"-?[A-Za-z]+").match(self.text, self.at)
        if word and word[0] in _WORDS:
            self.at = word.end()
            return _WORDS[word[0]]
        raise self.error("Expecting value", self.at)

    def number(self, match: re.Match) -> float | int:
        self.at = match.end()
        if len(match[0]) > 100:
            raise TimelineError("this JSON has a number that is too long", *self.place(match.start()))
        return int(match[0]) if re.fullmatch(r"[+-]?[0-9]+", match[0]) else float(match[0])

    def items(self, closing: str, depth: int) -> list[Any]:
        values = []
        while not self.closed(closing, bool(values)):
            values.append(self.value(depth))
        return values

    def members(self, closing: str, depth: int) -> dict[Placed, Any]:
        values: dict[Placed, Any] = {}
        while not self.closed(closing, bool(values)):
            key = self.key()
            if self.peek() not in (":", "="):
                raise self.error("Expecting ':' after the key", self.at if key.quoted else self.at - len(key))
            self.at += 1
            if self.text.startswith(">", self.at):  # Ruby, PHP
                self.at += 1
            if key in values:
                raise TimelineError(f'the key "{key}" appears twice in one object', 1, 1)
            values[key] = self.value(depth)
        return values

    def closed(self, closing: str, comma_first: bool) -> bool:
        """Move past the closing bracket (True) or to the next member (False); the last comma may be extra."""
        char = self.peek()
        if char in (closing, ""):
            return self._end(char, closing)
        if comma_first:
            if char not in ",;":
                raise self.error("Expecting ',' delimiter", self.at)
            self.at += 1
            char = self.peek()
            if char in (closing, ""):
                return self._end(char, closing)
        return False

    def _end(self, char: str, closing: str) -> bool:
        if not char and not self.unbraced:
            raise self.error(f"the closing '{closing}' is missing", self.at)
        self.at += 1
        return True

    def key(self) -> Placed:
        if self.peek() in _QUOTES:
            return self.string()
        match = _NUMBER.match(self.text, self.at) or _WORD.match(self.text, self.at)
        if match is None:
            raise self.error("Expecting a key in double quotes", self.at)
        key = self.placed(match[0], self.at)
        key.quoted = False
        self.at = match.end()
        return key

    def placed(self, value: str, at: int) -> Placed:
        result = Placed(value)
        result.line, result.column = self.place(at)
        return result

    def string(self) -> Placed:
        start = self.at
        quote, closing = self.text[start], _QUOTES[self.text[start]]
        end = start + 1
        while end < len(self.text) and self.text[end] not in closing:
            end += 2 if self.text[end] == "\\" else 1
        if end >= len(self.text):
            raise self.error("Unterminated string", start)
        self.at = end + 1
        return self.placed(self.unescaped(self.text[start + 1 : end], quote, start), start)

    def unescaped(self, body: str, quote: str, start: int) -> str:
        if "\\" not in body:
            return body
        if quote != '"':
            body = re.sub(r"""\\(['`\u2018\u2019\u201c\u201d])""", r"\1", body)
            body = re.sub(r'(?<!\\)((?:\\\\)*)"', r'\1\\"', body)
        try:
            return json.loads(f'"{body}"', strict=False)
        except json.JSONDecodeError as error:
            raise self.error(error.msg, start + error.pos) from error


def place_of(entry: dict, default: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Return line and column of an object: those of its first key."""
    key = next(iter(entry), None)
    return default if key is None else (key.line, key.column)


def finite(value: float) -> bool:
    """Return whether a number is finite, also as a float."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def kind_of(value: Any) -> str:
    """Return what a JSON value is, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"the number {value}"[:40]
