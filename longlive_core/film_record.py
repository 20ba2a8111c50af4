"""Reading what a film's file says about itself. The file may come from anybody, so nothing in it is taken on trust.

Sizes are looked at before FFmpeg sets memory aside for them (`boxes.py`), the tags before they are parsed, and every
field before it is used: its type, its range, and what else the record says. All that is wrong is a ValueError.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import av

from .boxes import MIB, check_boxes
from .config import StreamConfig
from .metadata import FORMAT, FilmRun
from .noise import MAX_SEED
from .timeline import MAX_SECONDS, TRANSITIONS
from .wording import shorten

LONGEST_TAG = 8 * MIB  # characters: some 30,000 prompts; parsed they take 25 times as much
MOST_READ = 192 * MIB  # bytes of a file until its tags are known
_MOST = 1_000_000  # of a number that counts
_MOST_PIXELS = 2**14
_MOST_FPS = 10_000
_SAID = 60  # characters of a value in a message


def read_film(path: str | os.PathLike) -> FilmRun:
    """The run that made the film at `path`. ValueError, with the reason, where the file does not tell."""
    tags = _tags(path)
    if "longlive" not in tags:
        raise ValueError(f"'{path}' does not say how it was rendered: it was not made by LongLive, or it was saved "
                         "without metadata (--no-metadata, in ComfyUI --disable-metadata), or another program removed "
                         "it; render its timeline from a text")  # fmt: skip
    try:
        run = _parsed(_text_of(tags, "longlive"))
        if type(run.get("format")) is int and run["format"] > FORMAT:
            newer = shorten(str(run["format"]), _SAID)
            raise NewerFormat(f"'{path}' was made by a newer version of LongLive (its format is {newer}, the newest "
                              f"known here {FORMAT}); update this one")  # fmt: skip
        return _film_run(_text_of(tags, "comment"), run)
    except NewerFormat:
        raise
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        reason = shorten(str(error), 4 * _SAID)
        raise ValueError(f"the metadata of '{path}' is damaged ({reason}); render its timeline from a text") from error


class NewerFormat(ValueError):
    """A film of a later version."""


class _Bounded:
    """A file of which only so many bytes are read, for FFmpeg: what opens a film has no need of more."""

    def __init__(self, file, most: int):
        self._file, self._left, self.seek, self.tell = file, most, file.seek, file.tell

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it says too much before its pictures begin")
        return data


def _tags(path: str | os.PathLike) -> dict[str, str]:
    """As text; bytes that are not UTF-8 come as halves of surrogate pairs."""
    if not os.path.isfile(path):
        raise ValueError(f"there is no film '{path}'")
    try:
        with open(path, "rb") as file:
            check_boxes(file)
            with av.open(_Bounded(file, MOST_READ), metadata_errors="surrogateescape") as container:
                if container.streams.video:
                    return dict(container.metadata)
    except (OSError, ValueError) as error:  # PyAV's errors are one or the other
        raise ValueError(f"'{path}' is not a video that can be read ({error})") from error
    raise ValueError(f"'{path}' is not a video: it has no picture track")


def _text_of(tags: Mapping[str, str], name: str) -> str:
    if name not in tags:
        raise ValueError(f"'{name}' is missing")
    if len(tags[name]) > LONGEST_TAG:
        raise ValueError(f"its tag {name} has {len(tags[name])} characters, and at most {LONGEST_TAG} are read")
    return _unicode(tags[name], f"its tag {name}")


def _unicode(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} is no Unicode text (character {error.start})") from error
    return text


def _parsed(text: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number that a record has")

    try:
        run = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("its JSON is nested too deep") from None
    if not isinstance(run, dict):
        raise TypeError(f"the record is {_said(run)}, not an object")
    return run


def _said(value: Any) -> str:
    """A value in a message. A number of thousands of digits takes long to write, or cannot be written."""
    if isinstance(value, int) and abs(value) > 10**_SAID:
        return f"a number of more than {_SAID} digits"
    return shorten(repr(value), _SAID) if not isinstance(value, (list, dict)) else f"a {type(value).__name__}"


def _checked(run: Mapping[str, Any], name: str, fits: Callable[[Any], bool], what: str | None = None) -> Any:
    if name not in run:
        raise ValueError(f"'{name}' is missing")
    if not fits(run[name]):
        raise ValueError(f"{what or name} is {_said(run[name])}")
    return run[name]


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _number(value: Any) -> bool:
    """Of a float a finite one; of a whole number one that a float can hold."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _film_run(timeline: str, run: Mapping[str, Any]) -> FilmRun:
    if _checked(run, "format", lambda value: type(value) is int) != FORMAT:
        raise ValueError(f"format is {run['format']}")
    fps = _checked(run, "fps", lambda value: _number(value) and 0 < value <= _MOST_FPS)
    chunks = _checked(run, "chunks", _whole(1, 10 * _MOST))
    size = tuple(_checked(run, name, _whole(1, _MOST_PIXELS)) for name in ("width", "height"))
    film = FilmRun(
        timeline, fps, chunks, _checked(run, "seed", _whole(0, MAX_SEED)), size, _stream(run),
        _checked(run, "model", lambda value: isinstance(value, str)), _segments(run, chunks),
        _checked({"given": 0, **run}, "given", _whole(0, chunks)),
    )  # fmt: skip
    if film.frames > MAX_SECONDS * fps + 8 * film.stream.chunk:
        raise ValueError(f"{chunks} chunks last more than {MAX_SECONDS:g} s")
    return film


def _stream(run: Mapping[str, Any]) -> StreamConfig:
    whole, texts = ("window", "sink", "chunk", "context_noise"), ("sink_policy", "positions")
    kinds = {name: _whole(-1, _MOST) for name in whole} | {name: lambda value: isinstance(value, str) for name in texts}
    kinds |= {"shift": _number, "denoising_steps": _steps}
    stream = {field.name: _checked(run, field.name, kinds[field.name]) for field in fields(StreamConfig)}
    stream["denoising_steps"] = tuple(stream["denoising_steps"])
    return StreamConfig(**stream)


def _steps(value: Any) -> bool:
    return isinstance(value, list) and all(map(_whole(1, _MOST), value))


def _segments(run: Mapping[str, Any], chunks: int) -> tuple[dict[str, Any], ...]:
    segments, least = _checked(run, "segments", lambda value: isinstance(value, list)), 0
    if not segments:
        raise ValueError("it has no segments")
    for number, segment in enumerate(segments, 1):
        if not isinstance(segment, dict):
            raise TypeError(f"segment {number} is {_said(segment)}")
        _check_segment(segment, f"of segment {number} the", _whole(least, 0 if number == 1 else chunks - 1))
        least = segment["chunk"] + 1
    return tuple(segments)


def _check_segment(segment: Mapping[str, Any], what: str, starts: Callable[[Any], bool]) -> None:
    fits = {
        "chunk": starts, "transition": TRANSITIONS.__contains__, "text": lambda value: isinstance(value, str),
        "requested_seconds": lambda value: _number(value) and value >= 0,
        "seed": lambda value: value is None or _whole(0, MAX_SEED)(value), "blend": _whole(0, 10 * _MOST),
    }  # fmt: skip
    for name, fit in fits.items():
        _checked({"seed": None, "blend": 0, **segment}, name, fit, f"{what} {name}")
    _unicode(segment["text"], f"{what} text")
