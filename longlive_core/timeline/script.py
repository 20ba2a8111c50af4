"""A parsed timeline: what was written, before any duration or frame rate is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .plan import Plan
from .snap import make_plan
from .syntax import Segment


@dataclass(frozen=True)
class Script:
    """A timeline as written.

    segments: in order of time; the first starts at 0.
    anchor: text put before every prompt, or None.
    form: lines | ranges | untimed | json | entries | scope, the way it was written.
    notes: remarks of the parser; they come first among a plan's hints.
    """

    segments: tuple[Segment, ...]
    anchor: str | None
    form: str
    notes: tuple[str, ...] = ()

    def plan(self, duration: float | None, fps: float = 16, chunk: int = 3, chunks: int | None = None) -> Plan:
        """Snap the script to chunks.

        duration: seconds, or None for the script's own length: the end of the last range, else 10 s after the last
            time, else 10 s for each prompt.
        fps: frames per second. chunk: latent frames per chunk (4 pixel frames each; a shot's first one is 1).
        chunks: the film's exact number of chunks, instead of a duration. Such a film may end inside its last blend,
            since it may be the beginning of a longer one.
        Raises TimelineError where a segment does not fit.
        """
        plan = make_plan(self.segments, self.anchor, duration, fps, chunk, chunks)
        return replace(plan, hints=self.notes + plan.hints)
