"""The anchor, a line `* text` that is put before every prompt; and bulleted lists, which start with a star, too."""

from __future__ import annotations

from ..folding import fold, lstrip, rstrip
from ..options import check_characters
from ..syntax import TimelineError
from .heads import SegmentHead, find_head


def take_anchor(lines: list[str]) -> tuple[str | None, list[str]]:
    """Return the anchor's text (or None), and the lines with the anchor blanked, so that line numbers stay."""
    starred = [index for index, line in enumerate(lines) if fold(line).text.lstrip().startswith("*")]
    bullets = set(_bullets(lines, starred))
    anchor, anchor_line, rest = None, 0, list(lines)
    for index in starred:
        if index in bullets:
            continue
        body, number, column = _body(lines[index], index + 1)
        if anchor is not None:
            raise TimelineError(
                f"this is a second anchor; the first is in line {anchor_line} (in a list of prompts, each has a "
                "time, or no star)",
                number,
                column,
            )
        anchor, anchor_line, rest[index] = body, number, ""
    return anchor, rest


def _body(line: str, number: int) -> tuple[str, int, int]:
    """Return the text of an anchor line, its line and column."""
    folded = fold(line)
    start = len(folded.text) - len(folded.text.lstrip())
    column, body = folded.at[start] + 1, line[folded.at[start] + 1 :]
    if fold(body).text and not fold(body).text[0].isspace():
        bold = " (two stars are Markdown's bold, which is not supported)" if fold(body).text[0] == "*" else ""
        raise TimelineError(f"an anchor is written '* text', with a space after the star{bold}", number, column)
    text = rstrip(lstrip(body))
    if not text:
        raise TimelineError("the anchor has no text; write '* subject and setting'", number, column)
    if fold(text).text.endswith("}"):
        raise TimelineError("an anchor takes no options; put them at the end of a segment", number, column)
    check_characters(text, number, column)
    return text, number, column


def _bullets(lines: list[str], starred: list[int]) -> list[int]:
    """Return the starred lines that are segments: a time follows the star, and it is not part of an anchor's text."""
    heads = {index: head for index in starred if (head := _timed(lines[index], index + 1)) is not None}
    stars = set(starred)
    others = [index for index, line in enumerate(lines) if index not in stars and fold(line).text.strip()]
    if len(heads) > 1 or any(head.zero for head in heads.values()) or not others:
        return list(heads)
    return []


def _timed(line: str, number: int) -> SegmentHead | None:
    try:
        head = find_head(line, number)
    except TimelineError:
        return None
    return None if head is None or head.bare or not head.certain else head
