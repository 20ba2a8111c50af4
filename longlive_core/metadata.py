"""What a film's file says about itself, and a film from what its file says.

Two tags of the container: `comment`, the timeline as written, and `longlive`, the run as JSON. They are enough to
render the film again, with the same model's files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import av

from .captions import Caption
from .config import StreamConfig
from .timeline import MAX_SECONDS, Plan, PlannedSegment, Script, shot_boundary
from .wording import count

if TYPE_CHECKING:
    from .takes import Manifest

FORMAT = 1
# Of a planned segment, what follows from the timeline's chunks.
_FOLLOWS = {"start_chunk", "chunks", "start_frame", "start_seconds", "line"}


@dataclass(frozen=True)
class FilmRun:
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

    def start_frame(self, chunk: int) -> int:
        """The film's frame with which a chunk begins."""
        return _start_frame(chunk, _cuts(self.segments), self.stream.chunk)


def film_metadata(timeline: str, plan: Plan, stream: StreamConfig, seed: int, size: tuple[int, int],
                  model: str) -> dict[str, str]:  # fmt: skip
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


def captions_of(plan: Plan) -> list[Caption]:
    """The prompts of a film, each from its first frame on."""
    return [Caption(segment.start_frame, segment.text) for segment in plan.segments]


def captions_of_take(take: Manifest) -> list[Caption]:
    """As `captions_of`, for a film of stored chunks."""
    cuts, size = _cuts(take.segments), take.origin["stream"]["chunk"]
    return [Caption(_start_frame(segment["chunk"], cuts, size), segment["text"]) for segment in take.segments]


def _cuts(segments: Sequence[Mapping[str, Any]]) -> list[int]:
    """The first chunks of the shots but the first."""
    return [segment["chunk"] for segment in segments[1:] if segment["transition"] == "cut"]


def _start_frame(chunk: int, cuts: Sequence[int], size: int) -> int:
    """The film's frame with which a chunk of `size` latent frames begins."""
    bounds = [0, *(cut for cut in cuts if cut < chunk), chunk]
    return sum(shot_boundary(end - start, size) for start, end in pairwise(bounds))


def duration_again(script: Script, film: FilmRun) -> float:
    """Seconds to plan a film's timeline for, to have the same film. They follow from its number of chunks, but where
    prompts are split evenly, which the exact duration decides."""
    if script.segments[0].time is None and len(film.segments) > 1:
        return len(film.segments) * film.segments[1]["requested_seconds"]
    return min(film.frames / film.fps, MAX_SECONDS)


def plan_again(script: Script, film: FilmRun) -> Plan:
    """The plan of a film from its timeline. ValueError where this is not the timeline it was made from."""
    plan = script.plan(duration_again(script, film), film.fps, film.stream.chunk)
    if plan.chunks != film.chunks or _prompts(segments_of(plan)) != _prompts(film.segments):
        raise ValueError(f"the film's timeline makes another film ({count(plan.chunks, 'chunk')} with "
                         f"{count(len(plan.segments), 'prompt')}) than its record says "
                         f"({count(film.chunks, 'chunk')} with {count(len(film.segments), 'prompt')}): one of them "
                         "was changed, or an earlier version read it otherwise; give --duration to render the "
                         "timeline")  # fmt: skip
    return plan


def _prompts(segments: Sequence[Mapping[str, Any]]) -> list[tuple]:
    return [(segment["chunk"], segment["transition"], segment["text"]) for segment in segments]


def read_film(path: str | os.PathLike) -> FilmRun:
    """The run that made the film at `path`. ValueError, with the reason, where the file does not tell."""
    tags = _tags(path)
    if "longlive" not in tags:
        raise ValueError(f"'{path}' does not say how it was rendered: it was not made by LongLive, or it was saved "
                         "without metadata (--no-metadata, in ComfyUI --disable-metadata), or another program removed "
                         "it; render its timeline from a text")  # fmt: skip
    try:
        run = json.loads(tags["longlive"])
        film = None if run["format"] > FORMAT else _film_run(tags["comment"], run)
    except KeyError as error:
        raise _damaged(path, f"{error} is missing") from error
    except (TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if film is None:
        raise ValueError(f"'{path}' was made by a newer version of LongLive (its format is {run['format']}, the newest "
                         f"known here {FORMAT}); update this one")  # fmt: skip
    return film


def _damaged(path: str | os.PathLike, reason: str) -> ValueError:
    return ValueError(f"the metadata of '{path}' is damaged ({reason}); render its timeline from a text")


def _tags(path: str | os.PathLike) -> dict[str, str]:
    if not os.path.isfile(path):
        raise ValueError(f"there is no film '{path}'")
    try:
        with av.open(os.fspath(path), metadata_errors="replace") as container:
            if container.streams.video:
                return dict(container.metadata)
    except (OSError, ValueError) as error:  # PyAV's errors are one or the other
        raise ValueError(f"'{path}' is not a video that can be read ({error})") from error
    raise ValueError(f"'{path}' is not a video: it has no picture track")


def _film_run(timeline: str, run: Mapping[str, Any]) -> FilmRun:
    """KeyError, TypeError or ValueError where `run` is not what `film_metadata` writes."""
    for name in ("chunks", "width", "height"):
        if type(run[name]) is not int or run[name] < 1:
            raise ValueError(f"{name} is {run[name]!r}")
    if type(run["seed"]) is not int or not run["fps"] > 0:
        raise ValueError(f"seed is {run['seed']!r}, fps is {run['fps']!r}")
    segments = tuple(run["segments"])
    if not segments:
        raise ValueError("it has no segments")
    for segment in segments:
        if type(segment["chunk"]) is not int or type(segment["requested_seconds"]) not in (int, float):
            raise ValueError(f"a segment starts with chunk {segment['chunk']!r}")
    _prompts(segments)
    stream = {field.name: run[field.name] for field in fields(StreamConfig)}
    stream["denoising_steps"] = tuple(stream["denoising_steps"])
    return FilmRun(timeline, run["fps"], run["chunks"], run["seed"], (run["width"], run["height"]),
                   StreamConfig(**stream), str(run["model"]), segments, run.get("given", 0))  # fmt: skip
