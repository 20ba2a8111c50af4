"""What a film's file says about itself, and a film from what its file says (read by `read_tags.py`).

Two tags of the container: `comment`, the timeline as written, and `longlive`, the run as JSON. They are enough to
render the film again, with the same model's files.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ..config import StreamConfig
from ..timeline import MAX_SECONDS, Plan, PlannedSegment, Script
from ..words.wording import count
from .subtitles import Subtitle

FORMAT = 1
# Of a planned segment, what follows from the timeline's chunks.
_FOLLOWS = {"start_chunk", "chunks", "start_frame", "start_seconds", "line"}


@dataclass(frozen=True)
class FilmRecord:
    """The run that made a film.

    Attributes:
        timeline: the text as written.
        fps: frames a second.
        chunks: of the whole film, also where the file ends earlier.
        seed: of the noise.
        size: (width, height) in pixels.
        stream: the settings.
        model: its name, for people.
        segments: for each prompt its `chunk`, `transition`, `text`, and `requested_seconds`, the time asked for.
        given: chunks that it begins with and that the run did not make: of a picture, a clip, another take.
    """

    timeline: str
    fps: float
    chunks: int
    seed: int
    size: tuple[int, int]
    stream: StreamConfig
    model: str
    segments: tuple[Mapping[str, Any], ...]
    given: int = 0

    @property
    def frames(self) -> int:
        """Of the whole film."""
        return self.start_frame(self.chunks)

    @cached_property
    def _cuts(self) -> list[int]:
        return cuts_of(self.segments)

    def start_frame(self, chunk: int) -> int:
        """The film's frame with which a chunk begins."""
        return start_frame(chunk, self._cuts, self.stream.chunk)


def film_metadata(
    timeline: str, plan: Plan, stream: StreamConfig, seed: int, size: tuple[int, int], model: str
) -> dict[str, str]:
    """The tags of a film. timeline: as written. size: (width, height). model: its name."""
    run = {
        "format": FORMAT,
        "model": model,
        "seed": seed,
        "chunks": plan.chunks,
        "fps": plan.fps,
        "width": size[0],
        "height": size[1],
        **asdict(stream),
        "segments": segments_of(plan),
    }
    return {"comment": timeline, "longlive": json.dumps(run, ensure_ascii=False)}


def with_given(tags: Mapping[str, str], given: int) -> dict[str, str]:
    """The tags of a film that begins with so many chunks that its run did not make."""
    if not given:
        return dict(tags)
    return {**tags, "longlive": json.dumps({**json.loads(tags["longlive"]), "given": given}, ensure_ascii=False)}


def segments_of(plan: Plan) -> list[dict[str, Any]]:
    """The prompts of a plan as plain data."""
    return [_plain(segment) for segment in plan.segments]


def _plain(segment: PlannedSegment) -> dict[str, Any]:
    told = {name: value for name, value in asdict(segment).items() if name not in _FOLLOWS}
    return {"chunk": segment.start_chunk, **told}


def subtitles_of(plan: Plan) -> list[Subtitle]:
    """The prompts of a film, each from its first frame on."""
    return [Subtitle(segment.start_frame, segment.text) for segment in plan.segments]


def cuts_of(segments: Sequence[Mapping[str, Any]]) -> list[int]:
    """The first chunks of the shots but the first."""
    return [segment["chunk"] for segment in segments[1:] if segment["transition"] == "cut"]


def start_frame(chunk: int, cuts: Sequence[int], size: int) -> int:
    """The film's frame with which a chunk of `size` latent frames begins; cuts: rising, the first above 0."""
    shots = bisect_left(cuts, chunk) + 1  # that begin before it
    return 4 * size * chunk - 3 * shots if chunk else 0


def duration_again(script: Script, film: FilmRecord) -> float:
    """Seconds to plan a film's timeline for, to have the same film. They follow from its number of chunks, but where
    prompts are split evenly, which the exact duration decides."""
    if script.segments[0].time is None and len(film.segments) > 1:
        return len(film.segments) * film.segments[1]["requested_seconds"]
    return min(film.frames / film.fps, MAX_SECONDS)


def plan_again(script: Script, film: FilmRecord) -> Plan:
    """The plan of a film from its timeline. ValueError where this is not the timeline it was made from."""
    plan = script.plan(duration_again(script, film), film.fps, film.stream.chunk)
    if plan.chunks != film.chunks or _prompts(segments_of(plan)) != _prompts(film.segments):
        raise ValueError(
            f"the film's timeline makes another film ({count(plan.chunks, 'chunk')} with "
            f"{count(len(plan.segments), 'prompt')}) than its record says "
            f"({count(film.chunks, 'chunk')} with {count(len(film.segments), 'prompt')}): one of them "
            "was changed, or an earlier version read it otherwise; give --duration to render the "
            "timeline"
        )
    return plan


def _prompts(segments: Sequence[Mapping[str, Any]]) -> list[tuple]:
    return [(segment["chunk"], segment["transition"], segment["text"]) for segment in segments]
