"""Words for people: plurals, and texts that are too long for their place."""

from __future__ import annotations

from collections.abc import Sequence

from .visible import shown

MORE = "…"
WORDS = 80  # characters of a prompt, where a report names one


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Such as "1 chunk", "2 chunks", "1 other take"; plural: where an s behind the noun is wrong."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def shorten(text: str, width: int) -> str:
    """At most `width` characters on one line, as `shown`, cut behind a whole word where there is one."""
    text = shown(" ".join(text.split()))
    if len(text) <= width:
        return text
    kept = text[:width]  # of which the last character makes room
    whole = kept[:-1] if text[width - 1] == " " else kept[:-1].rpartition(" ")[0]
    return (whole or kept[:-1]).rstrip(" ,;:.") + MORE


def shorten_middle(name: str, width: int) -> str:
    """A file's or an object's name of at most `width` characters; what goes is its middle, as both ends tell it."""
    name = shown(name)
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return name[: width - 1 - end] + MORE + name[len(name) - end :]


def shorten_list(numbers: Sequence[int], most: int = 8) -> str:
    """Such as "3, 5, 6 and 4 more"."""
    said = ", ".join(map(str, numbers[:most]))
    return said if len(numbers) <= most else f"{said} and {len(numbers) - most} more"
