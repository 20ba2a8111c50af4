"""Timeline text -> Script: decides which notation a text is in. Each notation is read by a file in notations/."""

from __future__ import annotations

from functools import lru_cache

from .folding import fold, split_lines
from .limits import check_segments, check_text
from .notations.anchor import take_anchor
from .notations.documents import strip_document
from .notations.json_shapes import is_json, parse_json
from .notations.lines import read_lines
from .script import Script, check_order
from .syntax import Segment, TimelineError
from .syntax_hints import text_hints


def parse(text: str, continues: bool = False) -> Script:
    """Read a timeline in any notation (docs/timeline.md). Raises TimelineError with line and column.

    continues: the timeline extends an existing film, so its first prompt may have a transition or a blend, too.
    """
    if not isinstance(text, str):
        raise TypeError(f"a timeline is text, not {type(text).__name__}")
    return _parse(text, continues)


@lru_cache(maxsize=8)  # a host parses the same text several times for each film
def _parse(text: str, continues: bool) -> Script:
    segments, anchor, notation, hints = read(text)
    check_segments(len(segments))
    check_order(segments, continues)
    return Script(tuple(segments), anchor, notation, (*hints, *text_hints(segments, notation, anchor)))


def read(text: str) -> tuple[list[Segment], str | None, str, list[str]]:
    """Return segments, anchor, notation and hints; the segments are not yet checked against each other."""
    check_text(text)
    anchor, lines = take_anchor(strip_document(split_lines(text)))
    content = [(number, line) for number, line in enumerate(lines, 1) if fold(line).text.strip()]
    if not content:
        what = "the timeline is empty" if anchor is None else "the timeline has an anchor but no prompt"
        raise TimelineError(f"{what}; write a line such as '0s A panda walks in the snow'", 1, 1)
    rest = "\n".join(lines)
    segments, notation, hints = parse_json(rest) if is_json(rest) else read_lines(content)
    return segments, anchor, notation, hints
