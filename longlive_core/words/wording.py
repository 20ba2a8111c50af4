"""Plurals, and texts shortened to fit."""

from __future__ import annotations

from collections.abc import Sequence

from .visible import make_visible

ELLIPSIS = "…"
PROMPT_WIDTH = 80  # characters of a prompt in a report


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return the number with its noun: "1 chunk", "2 chunks". plural: for nouns that do not simply take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def truncate(text: str, width: int) -> str:
    """Return at most `width` characters of the text as it is, with three dots where it was cut."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def shorten(text: str, width: int) -> str:
    """Return the text on one line of at most `width` characters, made visible, cut after a whole word if possible."""
    text = make_visible(" ".join(text.split()))
    if len(text) <= width:
        return text
    kept = text[:width]  # its last character makes room for the ellipsis
    whole = kept[:-1] if text[width - 1] == " " else kept[:-1].rpartition(" ")[0]
    return (whole or kept[:-1]).rstrip(" ,;:.") + ELLIPSIS


def shorten_middle(name: str, width: int) -> str:
    """Return a name of at most `width` characters with its middle left out, since both ends identify a file."""
    name = make_visible(name)
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return name[: width - 1 - end] + ELLIPSIS + name[len(name) - end :]


def shorten_list(numbers: Sequence[int], most: int = 8) -> str:
    """Return a list such as "3, 5, 6 and 4 more"."""
    listed = ", ".join(map(str, numbers[:most]))
    return listed if len(numbers) <= most else f"{listed} and {len(numbers) - most} more"


def hint_lines(hints: Sequence[str]) -> list[str]:
    """Return one line of a report for each hint."""
    return [f"hint: {make_visible(hint)}" for hint in hints]
