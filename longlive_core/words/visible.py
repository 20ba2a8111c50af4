"""Invisible characters: which they are, and how texts that contain them are shown.

A prompt may contain nearly any character, and is rendered and stored unchanged (half of a surrogate pair and NUL,
which cannot be encoded, are refused when the timeline is read). But a terminal obeys control characters, and a
direction mark reorders its neighbours, so that a name, a time or another prompt reads as something else. Therefore
every text that is shown - in reports, lists, messages, logs, subtitles and chapters - passes through `make_visible`.
"""

from __future__ import annotations

import re
import unicodedata

_FILLERS = frozenset("\u034f\u061c\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_JOINERS = "\u200c\u200d"
_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,6}\U000e007f")  # of a region, such as Wales


def is_invisible(char: str) -> bool:
    """Return whether a character is zero-width, directional, a soft hyphen or a control character, but no space."""
    if char in "\t\n\r\0":
        return False
    if char in _FILLERS or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef":
        return True
    category = unicodedata.category(char)
    return category == "Cc" or (category == "Cf" and not "\u0600" <= char <= "\u08ff")


def make_visible(text: str, lines: bool = False) -> str:
    """Return the text with every invisible character replaced by its number: "a<U+202E>b".

    Letters of every script stay as they are, and so do the joiners and selectors that are part of letters and emoji.
    lines: keep line breaks and tabs, too.
    """
    if text.isprintable() and (text.isascii() or not any(map(is_invisible, text))):
        return text
    if lines:
        text = text.replace("\r\n", "\n")
    flags = {match.start(): match.end() for match in _FLAG.finditer(text)}
    parts, before, flag = [], "", 0
    for place, char in enumerate(text):
        flag = max(flag, flags.get(place, 0))
        plain = place < flag or (lines and char in "\t\n") or _belongs(char, before) or not _acts(char)
        parts.append(char if plain else f"<U+{ord(char):04X}>")
        before = char if plain else ""
    return "".join(parts)


def _belongs(char: str, before: str) -> bool:
    """Return whether a character belongs to the letter or emoji before it ("" if there is none)."""
    if before.strip() == "" or before in _JOINERS:
        return False
    if char in _JOINERS:
        return not before.isascii()
    return bool(_SELECTOR.match(char)) and not _SELECTOR.match(before)


def _acts(char: str) -> bool:
    """Return whether a character changes how a text is displayed, instead of being displayed itself."""
    return is_invisible(char) or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")
