"""The report that the Prompt Timeline node shows below itself.

The front end wraps its lines between words, so nothing is in columns. The command line, which has more space, prints
`Plan.describe` instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..words.quantities import seconds_text
from ..words.wording import PROMPT_WIDTH, count, hint_lines, shorten
from .plan import Plan, PlannedSegment


def timeline_report(plan: Plan, endless: bool = False, hints: Sequence[str] = ()) -> str:
    """Return the film's length, a line for each prompt with its snapped time, and the hints.

    endless: the film has no length. hints: those in addition to the plan's own.
    """
    lines = [f"no end: the last prompt lasts until Finish ({plan.fps:g} fps)" if endless else _length(plan)]
    skip = 0
    if plan.anchor is not None:
        lines.append(f"in every prompt: {shorten(plan.anchor, PROMPT_WIDTH)}")
        skip = len(plan.anchor) + 1
    lines += [_segment(segment, skip) for segment in plan.segments]
    return "\n".join([*lines, *hint_lines([*plan.hints, *hints])])


def _length(plan: Plan) -> str:
    film = f"{count(plan.frames, 'frame')} at {plan.fps:g} fps"
    return f"{seconds_text(plan.seconds)}: {count(plan.chunks, 'chunk')}, {film}"


def _segment(segment: PlannedSegment, skip: int) -> str:
    notes = []
    if segment.start_chunk and segment.transition != "recache":
        notes.append(segment.transition)
    if abs(segment.requested_seconds - segment.start_seconds) > 0.005:
        notes.append(f"requested {seconds_text(segment.requested_seconds)}")
    if segment.seed is not None:
        notes.append(f"seed {segment.seed}")
    if segment.blend:
        notes.append(f"blend of {count(segment.blend, 'chunk')}")
    details = f" ({', '.join(notes)})" if notes else ""
    return f"{seconds_text(segment.start_seconds)}{details}: {shorten(segment.text[skip:], PROMPT_WIDTH)}"
