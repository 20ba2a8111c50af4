"""The tags of a film's file, which describe its run, and planning a film again from them (read by `read_tags.py`).

Two tags of the container: `comment`, the timeline as written, and `longlive`, the run as JSON. Together with the
model's files they are enough to render the film again.
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

FORMAT = 1
# Fields of a planned segment that follow from the timeline's chunks.
_FOLLOWS = {"start_chunk", "chunks", "start_frame", "start_seconds", "line"}


@dataclass(frozen=True)
class FilmRecord:
    """The run that rendered a film, as recorded in its file.

    Attributes:
        timeline: the text as written.
        fps: frames per second.
        chunks: chunks of the whole film, even if the file ends earlier.
        seed: seed of the noise.
        size: (width, height) in pixels.
        stream: the settings of the run.
        model: the model's name, for people.
        segments: `chunk`, `transition`, `text` and `requested_seconds`, the time in the timeline, of each prompt.
        given: number of start chunks, which the run did not render: of a picture, a clip, another take.
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
        """Frames of the whole film."""
        return self.start_frame(self.chunks)

    @cached_property
    def _cuts(self) -> list[int]:
        return cuts_of(self.segments)

    def start_frame(self, chunk: int) -> int:
        """Return the film's frame at which a chunk begins."""
        return start_frame(chunk, self._cuts, self.stream.chunk)


def film_metadata(
    timeline: str, plan: Plan, stream: StreamConfig, seed: int, size: tuple[int, int], model: str
) -> dict[str, str]:
    """Return the tags of a film. timeline: as written. size: (width, height). model: its name."""
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
    """Add the number of start chunks to the tags of a film."""
    if not given:
        return dict(tags)
    return {**tags, "longlive": json.dumps({**json.loads(tags["longlive"]), "given": given}, ensure_ascii=False)}


def segments_of(plan: Plan) -> list[dict[str, Any]]:
    """Return the prompts of a plan as plain data."""
    return [_plain(segment) for segment in plan.segments]


def _plain(segment: PlannedSegment) -> dict[str, Any]:
    fields = {name: value for name, value in asdict(segment).items() if name not in _FOLLOWS}
    return {"chunk": segment.start_chunk, **fields}


def cuts_of(segments: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the first chunk of every shot except the first."""
    return [segment["chunk"] for segment in segments[1:] if segment["transition"] == "cut"]


def start_frame(chunk: int, cuts: Sequence[int], size: int) -> int:
    """Return the film's frame at which a chunk of `size` latent frames begins. cuts: increasing, the first above 0."""
    shots = bisect_left(cuts, chunk) + 1  # shots that begin before it
    return 4 * size * chunk - 3 * shots if chunk else 0


def duration_again(script: Script, film: FilmRecord) -> float:
    """Return the duration in seconds that plans the same film again.

    It follows from the number of chunks, except if prompts are split evenly, which depends on the exact duration.
    """
    if script.segments[0].time is None and len(film.segments) > 1:
        return len(film.segments) * film.segments[1]["requested_seconds"]
    return min(film.frames / film.fps, MAX_SECONDS)


def plan_again(script: Script, film: FilmRecord) -> Plan:
    """Plan a film again from its timeline. ValueError if the film was rendered from another timeline."""
    plan = script.plan(duration_again(script, film), film.fps, film.stream.chunk)
    if plan.chunks != film.chunks or _prompts(segments_of(plan)) != _prompts(film.segments):
        raise ValueError(
            f"the film's timeline gives another film ({count(plan.chunks, 'chunk')} with "
            f"{count(len(plan.segments), 'prompt')}) than its record "
            f"({count(film.chunks, 'chunk')} with {count(len(film.segments), 'prompt')}): one of them "
            "was changed, or an earlier version read it differently; give --duration to render the "
            "timeline"
        )
    return plan


def _prompts(segments: Sequence[Mapping[str, Any]]) -> list[tuple]:
    return [(segment["chunk"], segment["transition"], segment["text"]) for segment in segments]
