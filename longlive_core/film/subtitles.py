"""Subtitles: the current prompt from each frame on, as a subtitle track and as chapters of an MP4.

The track is 3GPP timed text (`tx3g`, FFmpeg's `mov_text`). A sample is the length of its text in bytes, two bytes big
endian, and the text in UTF-8; it is shown until the next sample.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from struct import pack, unpack
from typing import BinaryIO

import av

from ..words.visible import make_visible
from .boxes import inside

_TEXT_BYTES, _TITLE_BYTES = 65535, 255  # largest lengths that a sample and a chapter (listed twice in an MP4) can have
_LANGUAGE_UND = 0x55C4  # ISO 639-2 with 5 bits per letter; a prompt's language is unknown
# The duration of every sample; the next one ends it earlier. FFmpeg's muxer refuses 2^31 ticks, and PyAV below 18
# counts in 1/90000 s.
_LONGEST = 6 * 3600  # seconds
_TRACK_ENABLED = 1
_CHAPTERS_SINCE = 16, 1  # PyAV: 16.0 crashes when a film with chapters is closed, older versions cannot write any


@dataclass(frozen=True)
class Subtitle:
    """`text` is shown from the frame `frame` of the film until the next subtitle, or the film's end."""

    frame: int
    text: str


def check_subtitles(subtitles: Sequence[Subtitle]) -> None:
    """Raise ValueError unless the frames rise from 0 or later."""
    frames = [subtitle.frame for subtitle in subtitles]
    if frames and frames[0] < 0 or any(after <= before for before, after in pairwise(frames)):
        raise ValueError(f"subtitles begin at the frames {frames}; they must rise, from 0 or later")


class SubtitleTrack:
    """Writes the subtitles of one MP4. Create it before the first packet is written; then `write_until`, `close`.

    Args:
        container: the film.
        subtitles: in order of time, at least one.
        time_base: seconds per tick, the same as of the pictures. (FFmpeg's muxer compares times of the two tracks
            without regard to their units.)
        frame: ticks per picture.
    """

    def __init__(
        self, container: av.container.OutputContainer, subtitles: Sequence[Subtitle], time_base: Fraction, frame: int
    ):
        self._container, self._subtitles, self._time_base, self._frame = container, subtitles, time_base, frame
        self._written = 0
        # From a template, because older PyAV cannot open the encoder (it needs a header that cannot be passed).
        with av.open(io.BytesIO(_empty_film(time_base.denominator)), format="mp4") as template:
            self._stream = container.add_stream_from_template(template.streams[0], opaque=True)
        self._stream.metadata.update(language="und", handler_name="Prompts")

    def write_until(self, frames: int) -> None:
        """Write the subtitles that begin before the frame `frames`; call it before those pictures are written."""
        while self._written < len(self._subtitles) and self._subtitles[self._written].frame < frames:
            subtitle = self._subtitles[self._written]
            self._mux(subtitle.text, subtitle.frame * self._frame, int(_LONGEST / self._time_base))
            self._written += 1

    def close(self, frames: int) -> None:
        """End the last subtitle with the film, which has `frames` frames, and write the chapters."""
        written = self._subtitles[: self._written]
        if not written:
            return
        # One tick long; otherwise the muxer's own last sample would have the same time.
        self._mux("", frames * self._frame - 1, 1)
        if tuple(map(int, av.__version__.split(".")[:2])) < _CHAPTERS_SINCE:
            return
        # MP4 counts chapters in milliseconds. They begin with their first picture, not before, and end with the film.
        frame = 1000 * self._frame * self._time_base
        starts, end = [math.ceil(subtitle.frame * frame) for subtitle in written], math.floor(frames * frame)
        self._container.set_chapters(
            [
                {
                    "id": number,
                    "start": start,
                    "end": until,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": _shortened(subtitle.text, _TITLE_BYTES).decode()},
                }
                for number, (subtitle, start, until) in enumerate(zip(written, starts, [*starts[1:], end], strict=True))
            ]
        )

    def _mux(self, text: str, start: int, duration: int) -> None:
        data = _shortened(text, _TEXT_BYTES)
        packet = av.Packet(2 + len(data))
        packet.update(pack(">H", len(data)) + data)  # av.Packet(data) is not copied by PyAV 17.0.0 when it is written
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = duration, self._time_base, self._stream
        self._container.mux(packet)


def hide_subtitles(file: BinaryIO) -> None:
    """Mark the subtitles of a finished MP4 as off by default; FFmpeg's muxer enables its first text track."""
    for movie in inside(file, b"moov", (0, file.seek(0, os.SEEK_END))):
        for track in inside(file, b"trak", movie):
            (header,), (media,) = inside(file, b"tkhd", track), inside(file, b"mdia", track)
            ((handler, _),) = inside(file, b"hdlr", media)
            file.seek(handler + 8)
            if file.read(4) == b"sbtl":
                file.seek(header[0])
                (flags,) = unpack(">I", file.read(4))
                file.seek(header[0])
                file.write(pack(">I", flags & ~_TRACK_ENABLED))


def _shortened(text: str, limit: int) -> bytes:
    """Return a text as `shown`, in UTF-8 of at most `limit` bytes; an ellipsis shortens a longer one."""
    data = make_visible(text, lines=True).encode()
    if len(data) <= limit:
        return data
    return (data[: limit - 3].decode(errors="ignore") + "\u2026").encode()


def _empty_film(timescale: int) -> bytes:
    """Return an MP4 with only a timed text track's description: white letters of 18 pixels, centred, at the bottom."""
    font = _box(b"ftab", pack(">HHB", 1, 1, 10), b"Sans-Serif")
    style = pack(">HHHBB4s", 0, 0, 1, 0, 18, b"\xff\xff\xff\xff")
    entry = _box(b"tx3g", bytes(6), pack(">HIbb", 1, 0, 1, -1), bytes(4 + 8), style, font)
    header = _box(b"mdhd", bytes(12), pack(">IIHH", timescale, 0, _LANGUAGE_UND, 0))
    table = _box(b"minf", _box(b"stbl", _box(b"stsd", pack(">II", 0, 1), entry)))
    handler = _box(b"hdlr", bytes(8), b"sbtl", bytes(13))
    track = _box(b"trak", _box(b"mdia", header, handler, table))
    return _box(b"ftyp", b"isom", bytes(4), b"isom") + _box(b"moov", track)


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return pack(">I4s", 8 + len(data), kind) + data
