"""A parsed timeline, before a duration or frame rate is known; and the rules that its segments keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .plan import Plan
from .snap import make_plan
from .syntax import Segment, TimelineError

# Ranges closer than this meet: it is less than a frame, and exports round their times.
MEETING_SECONDS = 0.05


@dataclass(frozen=True)
class Script:
    """A timeline as written.

    segments: in order of time; the first starts at 0.
    anchor: the text put before every prompt, or None.
    notation: how it was written: lines | ranges | untimed | json | entries | scope.
    hints: those of the parser; they come first among a plan's hints.
    """

    segments: tuple[Segment, ...]
    anchor: str | None
    notation: str
    hints: tuple[str, ...] = ()

    def plan(self, duration: float | None, fps: float = 16, chunk: int = 3, chunks: int | None = None) -> Plan:
        """Snap the script to chunks.

        duration: seconds, or None for the script's own length: the end of the last range, else 10 s after the last
            time, else 10 s for each prompt.
        fps: frames per second. chunk: latent frames per chunk (4 pixel frames each; a shot's first one is 1).
        chunks: the film's exact number of chunks, instead of a duration. Such a film may end inside its last blend,
            since it may be the start of a longer one.
        Raises TimelineError if a segment does not fit.
        """
        plan = make_plan(self.segments, self.anchor, duration, fps, chunk, chunks)
        return replace(plan, hints=self.hints + plan.hints)


def check_order(segments: Sequence[Segment], continues: bool = False) -> None:
    """Check that the first segment starts at 0, times increase and ranges meet.

    continues: the film extends another one, so the first segment may have a transition or a blend.
    """
    first = segments[0]
    if first.time is not None and not first.time.is_zero:
        raise TimelineError(
            f"the first segment starts at {first.time}, but the film starts at 0s; times are positions in it, not "
            f"lengths (if '{first.time}' belongs to the prompt, write a time before it: '0s {first.time} ...')",
            first.line,
            first.column,
        )
    if not continues:
        check_first(first)
    for before, after in pairwise(segments):
        if after.time is not None and after.time.compare(before.time) in (-1, 0):
            how = "the same time as" if after.time.compare(before.time) == 0 else "before"
            raise TimelineError(
                f"the segment starts at {after.time}, {how} the one in line {before.line} ({before.time}); "
                "times must increase",
                after.line,
                after.column,
            )
        if before.end is not None:
            _check_meeting(before, after)


def check_first(first: Segment) -> None:
    """Raise TimelineError if the first prompt of a film that extends no other has a transition or a blend."""
    if first.transition != "recache" or first.blend is not None:
        option = first.transition if first.blend is None else f"blend={first.blend}"
        raise TimelineError(
            f"the first segment has nothing before it, so {{{option}}} has no meaning there; remove it",
            first.line,
            first.column,
        )


def _check_meeting(before: Segment, after: Segment) -> None:
    order = after.time.compare(before.end)
    if order is None:
        raise TimelineError(
            f"the range starts at {after.time}, but the one in line {before.line} ends at {before.end}; write both in "
            "seconds, both in chunks or both in frames",
            after.line,
            after.column,
        )
    if order == 0 or _nearly(before, after):
        return
    what = "leaves a gap after" if order > 0 else "overlaps"
    raise TimelineError(
        f"the range starts at {after.time} and {what} the one in line {before.line}, which ends at {before.end}; "
        "each must start where the one before ends",
        after.line,
        after.column,
    )


def _nearly(before: Segment, after: Segment) -> bool:
    if after.time.seconds is not None:
        return abs(after.time.seconds - before.end.seconds) < MEETING_SECONDS
    return after.time.frame is not None and 0 <= after.time.frame - before.end.frame <= 1  # 0-79, 80-159
