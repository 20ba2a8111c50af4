"""A parsed timeline: what was written, before any duration or frame rate is known."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from .options import write_options
from .plan import Plan
from .snap import make_plan
from .syntax import Segment, TimelineError

_SIGN = re.compile(r"[^\w\s\"'(\[<{]")


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
        return make_plan(self, duration, fps, chunk, chunks)

    def to_text(self) -> str:
        """The timeline as text that parses to an equal script (places and notes apart).

        A prompt that its form cannot hold ("- 5s" behind a time) makes it a list of objects in JSON.
        """
        forms = ("lines", "parted") if self.form == "lines" else (self.form,)
        return self.text_in(*forms) or self.written("entries")

    def text_in(self, *forms: str) -> str | None:
        """The text in the first of these forms that reads back as this script."""
        return next(filter(self._reads_back, map(self.written, forms)), None)

    def written(self, form: str) -> str:
        """The text in a form, whatever it reads as."""
        anchor = [] if self.anchor is None else [f"* {self.anchor}"]
        return "\n".join(anchor + _WRITERS[form](self.segments))

    def _reads_back(self, text: str) -> bool:
        from .parse import read  # not above: parsing imports this file

        try:
            segments, anchor, _, _ = read(text)
        except TimelineError:
            return False
        return anchor == self.anchor and [_content(s) for s in segments] == [_content(s) for s in self.segments]


def _content(segment: Segment) -> Segment:
    return replace(segment, line=0, column=0)


def _prompt(segment: Segment) -> str:
    return segment.text + write_options(segment.transition, segment.seed, segment.blend)


def _lines(segments: tuple[Segment, ...]) -> list[str]:
    """A sign that could be read as one between time and prompt gets a colon in front."""
    return [f"{segment.time}{':' if _SIGN.match(segment.text) else ''} {_prompt(segment)}" for segment in segments]


def _parted(segments: tuple[Segment, ...]) -> list[str]:
    """Behind a colon everything is the prompt's, a dash too."""
    return [f"{segment.time}: {_prompt(segment)}" for segment in segments]


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


def _entries(segments: tuple[Segment, ...]) -> list[str]:
    entries = []
    for segment in segments:
        times = {"time": segment.time, "end": segment.end}
        entries.append(
            {name: str(time) for name, time in times.items() if time is not None} | {"text": _prompt(segment)}
        )
    return [json.dumps({"prompts": entries}, ensure_ascii=False)]


_WRITERS = {
    "lines": _lines,
    "parted": _parted,
    "ranges": _ranges,
    "untimed": _untimed,
    "json": _json,
    "entries": _entries,
    "scope": _scope,
}
