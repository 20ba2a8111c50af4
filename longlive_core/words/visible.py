"""Which characters can be seen, and how texts that hold others are shown to people.

A prompt may hold nearly any character, and what is rendered and stored is the text as it is (half of a surrogate pair
and NUL, which nothing can encode, are refused when it is read). But a terminal obeys control characters, and a
direction mark turns around what stands beside it, so that a name, a time or another prompt reads as something else. So
wherever a text is shown - reports, lists, messages, logs, a film's subtitles and chapters - it goes through `shown`.
"""

from __future__ import annotations

import re
import unicodedata

_FILLERS = frozenset("\u034f\u061c\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_JOINERS = "\u200c\u200d"
_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,6}\U000e007f")  # of a region, such as Wales


def invisible(char: str) -> bool:
    """Whether a character shows nothing and is no space: zero-width, directional, soft hyphen, control."""
    if char in "\t\n\r\0":
        return False
    if char in _FILLERS or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef":
        return True
    category = unicodedata.category(char)
    return category == "Cc" or (category == "Cf" and not "\u0600" <= char <= "\u08ff")


def shown(text: str, lines: bool = False) -> str:
    """The text with each character that acts instead of being seen as its number: "a<U+202E>b".

    Letters of every script stay as they are, with the joiners and selectors that they and emoji are made of. lines:
    line breaks and tabs stay, too.
    """
    if text.isprintable() and (text.isascii() or not any(map(invisible, text))):
        return text
    if lines:
        text = text.replace("\r\n", "\n")
    flags = {match.start(): match.end() for match in _FLAG.finditer(text)}
    found, before, flag = [], "", 0
    for place, char in enumerate(text):
        flag = max(flag, flags.get(place, 0))
        plain = place < flag or (lines and char in "\t\n") or _belongs(char, before) or not _acts(char)
        found.append(char if plain else f"<U+{ord(char):04X}>")
        before = char if plain else ""
    return "".join(found)


def _belongs(char: str, before: str) -> bool:
    """Whether it is part of the letter or the emoji before it, "" where there is none."""
    if before.strip() == "" or before in _JOINERS:
        return False
    if char in _JOINERS:
        return not before.isascii()
    return bool(_SELECTOR.match(char)) and not _SELECTOR.match(before)


def _acts(char: str) -> bool:
    return invisible(char) or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
