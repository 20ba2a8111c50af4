"""Reading the tags of a film's file. The file may come from anywhere, so its content is untrusted.

Sizes are checked before FFmpeg allocates memory for them (`boxes.py`), the tags before they are parsed, every field
before it is used (`files/fields.py`), and finally whether the fields fit together. Every fault is a ValueError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields as names_of
from typing import Any

import av

from ..config import POSITIONS, SINK_POLICIES, TRANSITIONS, StreamConfig
from ..engine.noise import MAX_SEED
from ..files.fields import Check, items, number, one_of, read_json, record, short_repr, text, whole
from ..timeline import MAX_SECONDS
from ..words.wording import shorten
from .boxes import MIB, check_boxes
from .tags import FORMAT, FilmRecord

LONGEST_TAG = 8 * MIB  # characters: some 30,000 prompts; parsed, they take 25 times as much memory
MOST_READ = 192 * MIB  # bytes of a file read to find its tags
_MOST_CHUNKS, _MOST_FRAMES, _MOST_PIXELS, _MOST_FPS = 10_000_000, 2**20, 2**14, 10_000
_REASON = 240  # most characters of a reason


def _or_none(check: Check) -> Check:
    return lambda value, where: None if value is None else check(value, where)


_STREAM = {
    "window": whole(-1, _MOST_FRAMES),
    "sink": whole(0, _MOST_FRAMES),
    "chunk": whole(1, 1024),
    "sink_policy": one_of(*SINK_POLICIES),
    "positions": one_of(*POSITIONS),
    "shift": number(0, 1e6),
    "denoising_steps": items(whole(1, 1000), 1, 1000),
    "context_noise": whole(0, 1000),
}
_SEGMENT = {
    "chunk": whole(0, _MOST_CHUNKS),
    "transition": one_of(*TRANSITIONS),
    "text": text(LONGEST_TAG),
    "requested_seconds": number(0, 1e9),
}
_MORE_OF_SEGMENT = {"seed": _or_none(whole(0, MAX_SEED)), "blend": whole(0, _MOST_CHUNKS)}
_RUN = {
    "model": text(LONGEST_TAG),
    "seed": whole(0, MAX_SEED),
    "chunks": whole(1, _MOST_CHUNKS),
    "fps": number(1e-3, _MOST_FPS),
    "width": whole(1, _MOST_PIXELS),
    "height": whole(1, _MOST_PIXELS),
    **_STREAM,
    "segments": items(record(_SEGMENT, _MORE_OF_SEGMENT), 1, _MOST_CHUNKS),
}
_MORE_OF_RUN = {"given": whole(0, _MOST_CHUNKS)}


def read_film(path: str | os.PathLike) -> FilmRecord:
    """Return the run that rendered the film at `path`. ValueError with the reason if the file does not contain it."""
    tags = _tags(path)
    if "longlive" not in tags:
        raise ValueError(
            f"'{path}' does not say how it was rendered: it was not made by LongLive, or it was saved "
            "without metadata (--no-metadata, in ComfyUI --disable-metadata), or another program removed "
            "it; render its timeline from a text"
        )
    try:
        film = _film_run(_text_of(tags, "comment"), read_json(_text_of(tags, "longlive").encode()))
    except _Newer as newer:
        raise ValueError(
            f"'{path}' was made by a newer version of LongLive (its format is {newer}, the newest known "
            f"here {FORMAT}); update this one"
        ) from newer
    except ValueError as error:
        reason = shorten(str(error), _REASON)
        raise ValueError(f"the metadata of '{path}' is damaged ({reason}); render its timeline from a text") from error
    return film


class _Newer(Exception):
    """A record of a later version."""


class _Bounded:
    """A file for FFmpeg with a limit on the bytes read: opening a film needs no more."""

    def __init__(self, file, most: int):
        self._file, self._left, self.seek, self.tell = file, most, file.seek, file.tell

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it has too much data before its pictures")
        return data


def _tags(path: str | os.PathLike) -> dict[str, str]:
    """Return the tags as text; bytes that are not UTF-8 become lone surrogates."""
    if not os.path.isfile(path):
        raise ValueError(f"there is no film '{path}'")
    try:
        with open(path, "rb") as file:
            check_boxes(file)
            with av.open(_Bounded(file, MOST_READ), metadata_errors="surrogateescape") as container:
                if container.streams.video:
                    return dict(container.metadata)
    except (OSError, ValueError) as error:  # PyAV's errors are one of these
        raise ValueError(f"'{path}' is not a video that can be read ({error})") from error
    raise ValueError(f"'{path}' is not a video: it has no picture track")


def _text_of(tags: Mapping[str, str], name: str) -> str:
    if name not in tags:
        raise ValueError(f"'{name}' is missing")
    if len(tags[name]) > LONGEST_TAG:
        raise ValueError(f"its tag {name} has {len(tags[name])} characters, and at most {LONGEST_TAG} are read")
    try:
        tags[name].encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"its tag {name} is not Unicode text (character {error.start})") from error
    return tags[name]


def _film_run(timeline: str, run: Any) -> FilmRecord:
    """Return the record. Raises _Newer for one of a later version."""
    form = run.get("format") if isinstance(run, dict) else None
    if type(form) is int and form > FORMAT:
        raise _Newer(form)
    if type(form) is not int or form != FORMAT:
        raise ValueError("'format' is missing" if form is None else f"format is {short_repr(form)}")
    run = {name: value for name, value in run.items() if name in _RUN or name in _MORE_OF_RUN}
    record(_RUN, _MORE_OF_RUN)(run, "")
    stream = {field.name: run[field.name] for field in names_of(StreamConfig)}
    stream["denoising_steps"] = tuple(stream["denoising_steps"])
    film = FilmRecord(
        timeline,
        run["fps"],
        run["chunks"],
        run["seed"],
        (run["width"], run["height"]),
        StreamConfig(**stream),
        run["model"],
        tuple(run["segments"]),
        run.get("given", 0),
    )
    _check_together(film)
    return film


def _check_together(film: FilmRecord) -> None:
    """Raise ValueError if fields contradict each other."""
    starts = [segment["chunk"] for segment in film.segments]
    if starts[0] or any(after <= before for before, after in zip(starts, starts[1:])):  # noqa: B905 - neighbours
        raise ValueError("its segments do not start at chunk 0 and increase")
    if max(starts[-1] + 1, film.given) > film.chunks:
        raise ValueError(f"it has {film.chunks} chunks, fewer than its segments or start chunks need")
    if film.frames > MAX_SECONDS * film.fps + 8 * film.stream.chunk:
        raise ValueError(f"{film.chunks} chunks last more than {MAX_SECONDS:g} s")
