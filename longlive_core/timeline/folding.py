"""Folding: invisible characters, full-width forms and the many line ends, reduced to the ASCII they look like.

Syntax is matched on a folded copy of a line, in which no character is invisible and every digit, bracket and dash is
the ASCII one. Prompts are cut from the line itself, so their text never changes.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..words.visible import is_invisible

# CR LF, LF, CR, and those of word processors and other systems: VT, FF, NEL, LINE and PARAGRAPH SEPARATOR.
_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_SAME = {
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2e3a\u2e3b\ufe58", "-"),
    **dict.fromkeys("\u301c\u223c\u02dc", "~"),
    **dict.fromkeys("\u2236\ua789\u02d0\u05c3\ufe30", ":"),
    **dict.fromkeys("\u3010\u3014\u3016\u300c\u300e\u27e6\u2045", "["),
    **dict.fromkeys("\u3011\u3015\u3017\u300d\u300f\u27e7\u2046", "]"),
    **dict.fromkeys("\u2502\u2503\u00a6\u2223\u23d0", "|"),
    **dict.fromkeys("\u2192\u21d2\u2794\u279c\u27f6\u25b6\u25b8\u2023\u203a", ">"),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2022\u25e6\u25aa\u25cf\u25cb\u25a0\u25a1\u00b7\u2219\u30fb", "\u2022"),
    "\u3001": ",",
    "\u3002": ".",
    "\u066b": ".",
    "\u2800": " ",
    "\u2217": "*",
    "\u204e": "*",
    "\u2044": "/",
}
# Selectors and joiners that are part of letters and emoji; in a prompt they belong to a word.
_ENDS_WORDS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef\U000e0020-\U000e007f]")
_PART_OF_WORDS = re.compile(f"[\u200c\u200d]|{_ENDS_WORDS.pattern}")


@lru_cache(maxsize=4096)
def fold_char(char: str) -> str:
    """Return the character that one looks like, or "" if it is invisible."""
    if is_invisible(char):
        return ""
    if char.isascii():
        return char
    if char in _SAME:
        return _SAME[char]
    category = unicodedata.category(char)
    if category == "Zs":
        return " "
    if category == "Nd":
        return str(unicodedata.decimal(char))
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 and plain.isascii() and category != "No" else char


@dataclass(frozen=True)
class Folded:
    """A folded line with the place of each character: text[i] comes from line[at[i]]; at[-1] is the line's end."""

    text: str
    at: Sequence[int]


# Several steps fold the same line, so lines are remembered; longer ones are folded once and not kept.
_REMEMBERED = 1000


def fold(line: str) -> Folded:
    """Return the folded line."""
    return _fold_again(line) if len(line) <= _REMEMBERED else _fold(line)


def _fold(line: str) -> Folded:
    if line.isascii() and line.isprintable():
        return Folded(line, range(len(line) + 1))
    chars = [(plain, index) for index, char in enumerate(line) if (plain := fold_char(char))]
    return Folded("".join(char for char, _ in chars), array("L", [*(index for _, index in chars), len(line)]))


_fold_again = lru_cache(maxsize=16384)(_fold)


def lstrip(text: str) -> str:
    """Remove the spaces and invisible characters at the start."""
    start = 0
    while start < len(text) and (text[start].isspace() or is_invisible(text[start])):
        start += 1
    return text[start:]


def rstrip(text: str) -> str:
    """Remove the spaces and invisible characters at the end, but not those that are part of an emoji."""
    end = len(text)
    while end and (text[end - 1].isspace() or (is_invisible(text[end - 1]) and not _ENDS_WORDS.match(text[end - 1]))):
        end -= 1
    return text[:end]


def split_lines(text: str) -> list[str]:
    """Split a text at any of the line ends."""
    return _LINE_END.split(text)


def one_line(text: str) -> str:
    """Return a prompt as one line of text; line breaks inside become spaces."""
    first, *more = re.split("[\r\n]+", text)
    if not more:
        return text
    *between, last = more
    return " ".join([first.rstrip(), *filter(None, map(str.strip, between)), last.lstrip()])


def invisible_inside(text: str) -> list[str]:
    """Return the invisible characters in a prompt that are not part of a word, as 'U+200B'."""
    if text.isascii() and text.isprintable():
        return []
    odd = (char for char in text if is_invisible(char) and not _PART_OF_WORDS.match(char))
    return [f"U+{ord(char):04X}" for char in dict.fromkeys(odd)]
