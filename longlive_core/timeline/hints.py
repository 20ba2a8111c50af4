"""Hints about a plan: what will probably surprise the user, but does not stop the film."""

from __future__ import annotations

import re
from itertools import pairwise

from ..words.wording import count
from .plan import PlannedSegment
from .syntax import Segment

_SHORT_CHUNKS = 2


def plan_hints(
    segments: tuple[Segment, ...],
    anchor: str | None,
    planned: tuple[PlannedSegment, ...],
    frames: int,
    fps: float,
    chunk: int,
) -> list[str]:
    """Return hints about ranges that end early, short segments, and prompts that do not repeat their subject."""
    hints = []
    end = segments[-1].end
    early = end is not None and (
        end.chunk < planned[-1].start_chunk + planned[-1].chunks
        if end.chunk is not None
        else end.seconds < (frames - 4 * chunk) / fps
    )
    if early:
        hints.append(f"line {planned[-1].line}: the range ends at {end}; its prompt lasts until {frames / fps:.2f} s")
    for segment in planned:
        if segment.chunks < _SHORT_CHUNKS:
            hints.append(
                f"line {segment.line}: the segment lasts {count(segment.chunks, 'chunk')}; a prompt needs two or "
                "more to show"
            )
    if anchor is None:
        for before, segment in pairwise(segments):
            if segment.transition != "cut" and not _related(before.text, segment.text):
                hints.append(
                    f"line {segment.line}: the segment repeats neither subject nor setting of line {before.line}, so "
                    "the picture may jump; name them again, add an anchor line '* text', or write {cut}"
                )
    return hints


_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+")
# Words that prompts share without sharing a subject or a setting.
_COMMON_WORDS = (
    "a an and are as at by camera close for from has her high his in into is it its light medium my of off on onto "
    "or our out over quality realistic scene she he shot shows slowly style that the their them then there they this "
    "to towards under up video view while wide with you your"
)
_COMMON = frozenset(_COMMON_WORDS.split())


def _stems(text: str) -> set[str]:
    """Return the content words without common English endings, so that 'pandas' and 'panda' are equal."""
    words = (word for word in _WORDS.findall(text.lower()) if word not in _COMMON)
    return {re.sub(r"(?:'s|ing|ed|es|s)$", "", word) if len(word) > 4 else word for word in words}


def _related(before: str, after: str) -> bool:
    first, second = _stems(before), _stems(after)
    # Without content words there is nothing to compare.
    return not first or not second or not first.isdisjoint(second)
