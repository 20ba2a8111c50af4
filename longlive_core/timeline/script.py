"""A parsed timeline: what was written, before any duration or frame rate is known."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .options import write_options
from .plan import Plan
from .snap import make_plan
from .syntax import Segment


@dataclass(frozen=True)
class Script:
    """A timeline as written.

    segments: in order of time; the first starts at 0.
    anchor: text put before every prompt, or None.
    form: lines | ranges | untimed | json | scope, the way it was written.
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
        return make_plan(self, duration, fps, chunk, chunks)

    def to_text(self) -> str:
        """The timeline as text that parses to an equal script (places and notes apart)."""
        anchor = [] if self.anchor is None else [f"* {self.anchor}"]
        return "\n".join(anchor + _WRITERS[self.form](self.segments))


def _prompt(segment: Segment) -> str:
    return segment.text + write_options(segment.transition, segment.seed, segment.blend)


def _lines(segments: tuple[Segment, ...]) -> list[str]:
    return [f"{segment.time} {_prompt(segment)}" for segment in segments]


def _ranges(segments: tuple[Segment, ...]) -> list[str]:
    return [f"[{segment.time}-{segment.end}: {_prompt(segment)}]" for segment in segments]


def _untimed(segments: tuple[Segment, ...]) -> list[str]:
    return [" | ".join(_prompt(segment) for segment in segments)]


def _json(segments: tuple[Segment, ...]) -> list[str]:
    return [json.dumps({"prompts": [_prompt(segment) for segment in segments]}, ensure_ascii=False)]


def _scope(segments: tuple[Segment, ...]) -> list[str]:
    entries = [
        {
            "startTime": segment.time.seconds,
            "endTime": segment.end.seconds,
            "prompts": [{"text": _prompt(segment), "weight": 100}],
        }
        for segment in segments
    ]
    return [json.dumps({"prompts": entries}, ensure_ascii=False)]


_WRITERS = {"lines": _lines, "ranges": _ranges, "untimed": _untimed, "json": _json, "scope": _scope}
