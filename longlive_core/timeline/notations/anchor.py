"""The anchor: the line `* text`, put before every prompt; and bulleted lists, whose lines also begin with a star."""

from __future__ import annotations

from ..folding import fold, lstrip, rstrip
from ..options import check_characters
from ..syntax import TimelineError
from .heads import Head, find_head


def take_anchor(lines: list[str]) -> tuple[str | None, list[str]]:
    """The anchor's text, and the lines with the anchor's line blanked, so that line numbers stay."""
    starred = [index for index, line in enumerate(lines) if fold(line).text.lstrip().startswith("*")]
    bullets = set(_bullets(lines, starred))
    anchor, anchor_line, rest = None, 0, list(lines)
    for index in starred:
        if index in bullets:
            continue
        body, number, column = _body(lines[index], index + 1)
        if anchor is not None:
            raise TimelineError(
                f"a second anchor; the first is in line {anchor_line} (a list of prompts has a time in front of each, "
                "or no star)",
                number,
                column,
            )
        anchor, anchor_line, rest[index] = body, number, ""
    return anchor, rest


def _body(line: str, number: int) -> tuple[str, int, int]:
    """The text of an anchor line, with its place."""
    folded = fold(line)
    start = len(folded.text) - len(folded.text.lstrip())
    column, body = folded.at[start] + 1, line[folded.at[start] + 1 :]
    if fold(body).text and not fold(body).text[0].isspace():
        bold = " (two stars are Markdown's bold, which is not read)" if fold(body).text[0] == "*" else ""
        raise TimelineError(f"an anchor is written '* text', with a space after the star{bold}", number, column)
    text = rstrip(lstrip(body))
    if not text:
        raise TimelineError("the anchor has no text; write '* subject and setting'", number, column)
    if fold(text).text.endswith("}"):
        raise TimelineError("an anchor takes no options; put them at the end of a segment", number, column)
    check_characters(text, number, column)
    return text, number, column


def _bullets(lines: list[str], starred: list[int]) -> list[int]:
    """The starred lines that are segments: with a time behind the star, and not just an anchor that names one."""
    heads = {index: head for index in starred if (head := _timed(lines[index], index + 1)) is not None}
    stars = set(starred)
    others = [index for index, line in enumerate(lines) if index not in stars and fold(line).text.strip()]
    if len(heads) > 1 or any(head.zero for head in heads.values()) or not others:
        return list(heads)
    return []


def _timed(line: str, number: int) -> Head | None:
    try:
        head = find_head(line, number)
    except TimelineError:
        return None
    return None if head is None or head.bare or not head.certain else head
