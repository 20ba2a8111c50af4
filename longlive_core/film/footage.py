"""Frames of a video file as players show them: upright, with square pixels, in the right colours.

Times count from the first picture shown, so a container's own start time (a cut from a longer film, a broadcast), an
edit list, or sound that begins earlier has no effect.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from statistics import median

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image

from .boxes import check_boxes
from .pictures import BACKGROUND, Picture

# A display matrix (a, b, c, d) takes the pixel (x, y), y downwards, to (a x + c y, b x + d y).
TURNS = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
TURNED_TO = "DISPLAYMATRIX"
_UNSPECIFIED, _HIGH = 2, 720  # unspecified colour matrix; height from which players assume BT.709
_HDR = {16: "PQ (HDR10, Dolby Vision)", 18: "HLG"}  # transfer characteristics
_WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}  # primaries
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_TEXT_CODECS = {"ansi", "bintext", "xbin", "idf"}  # FFmpeg renders text files as video
_DURATION = re.compile(r"(\d{1,5}):(\d{1,5}):(\d{1,5}(?:\.\d{0,20})?)\s*", re.ASCII)
_RECENT = 50  # number of recent intervals whose median is the usual one
_LONG_HOLD, _OFTEN = 1.0, 8  # seconds, and multiple of the usual interval, from which a held picture is reported


class Footage:
    """The pictures of a video file in display order; can be read once.

    Attributes:
        path: the file.
        rate: frames per second, the container's average; None if unknown.
        size: (width, height) of the pictures as stored.
        claimed: number of frames by the container's header, 0 if unknown.
        notes: what a viewer of the file would not expect; complete after the last picture.
    """

    def __init__(self, path: str | os.PathLike, container: av.container.InputContainer):
        self.path, self._container = os.fspath(path), container
        self._stream = self._find_stream()
        self.rate: Fraction | None = self._stream.average_rate or None
        self.size = (self._stream.width, self._stream.height)
        self.claimed = self._stream.frames
        self.notes: list[str] = []

    def _find_stream(self):
        pictures = [stream for stream in self._container.streams.video if not _is_cover(stream)]
        if not pictures:
            kinds = sorted({stream.type for stream in self._container.streams if stream.type != "video"})
            what = f"only {' and '.join(_KINDS.get(kind, kind) for kind in kinds)}" if kinds else "nothing visible"
            cover = " and a cover picture" if self._container.streams.video else ""
            raise ValueError(
                f"'{self.path}' is not a clip: it contains {what}{cover}, no moving picture; give a video or a picture"
            )
        stream = pictures[0]
        if stream.codec_context is None:
            raise ValueError(
                f"the pictures of '{self.path}' have an unknown codec; save it as a PNG, or as an MP4 with H.264"
            )
        if stream.codec_context.name in _TEXT_CODECS:
            raise ValueError(f"'{self.path}' is a text file, neither a picture nor a video")
        return stream

    def pictures(self) -> Iterator[Picture]:
        """Yield every picture. ValueError if the file is truncated, or its colours cannot be converted to a film's."""
        clock, count = _Clock(self.rate), 0
        if len(self._container.streams.video) > 1 and not any(map(_is_cover, self._container.streams.video)):
            self.notes.append(
                f"'{self.path}' has {len(self._container.streams.video)} picture tracks: the first one is used"
            )
        try:
            for frame in self._frames():
                time, lasts = clock.next(frame)
                yield Picture(self._upright(frame), time, lasts)
                count += 1
        except av.FFmpegError as error:
            after = f"breaks off after frame {count - 1}" if count else "contains no readable picture"
            raise ValueError(f"'{self.path}' {after} ({error}); copy or convert it again") from error
        self._note_times(clock, count)

    def _frames(self) -> Iterator[av.VideoFrame]:
        """Return the decoded frames. FFmpeg's own WebM decoders ignore transparency, so libvpx is used for it."""
        other = _ALPHA_DECODERS.get(self._stream.codec_context.name)
        if other is None or self._stream.metadata.get("alpha_mode") != "1":
            return self._container.decode(self._stream)
        try:
            decoder = av.CodecContext.create(other, "r")
        except (av.FFmpegError, ValueError):
            self._note(
                f"'{self.path}' is transparent in places, which cannot be read here: something else may appear there"
            )
            return self._container.decode(self._stream)
        return (frame for packet in self._container.demux(self._stream) for frame in decoder.decode(packet))

    def _note_times(self, clock: _Clock, count: int) -> None:
        for before, after in clock.holds():
            self.notes.append(
                f"'{self.path}' does not change from {before:.2f} s to {after:.2f} s: the picture is held"
            )
        if clock.backwards:
            self.notes.append(
                f"the time stamps of '{self.path}' run backwards at frame {clock.backwards[0]}"
                f"{f' and {len(clock.backwards) - 1} more' * (len(clock.backwards) > 1)}: its pictures "
                "are used in the order in which they are stored"
            )
        if clock.stalled_at:
            self.notes.append(
                f"the time stamps of '{self.path}' do not increase at frame {clock.stalled_at}: from there on "
                "its frame rate is used"
            )
        claimed, actual = self._claimed_seconds(), clock.end
        if count and claimed - actual > max(0.5, 0.1 * claimed):
            self.notes.append(
                f"'{self.path}' claims to last {claimed:.2f} s, but its pictures end after "
                f"{actual:.2f} s: is it complete?"
            )

    def _claimed_seconds(self) -> float:
        """Return the duration of the pictures by the file's header; 0 if unknown."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        start = float((self._stream.start_time or 0) * (self._stream.time_base or 1))
        match = _DURATION.fullmatch(self._stream.metadata.get("DURATION") or "")  # Matroska's tag: the end time
        return 0.0 if match is None else max(0.0, int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) - start)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _upright(self, frame: av.VideoFrame) -> Image.Image:
        image = Image.fromarray(self._rgb(frame))
        if getattr(frame, "interlaced_frame", False) and image.height > 3:
            self._note(
                f"'{self.path}' is interlaced: of the two fields of each picture the first is used, half of the lines"
            )
            image = _first_field(image)
        aspect = self._stream.sample_aspect_ratio
        if aspect and aspect > 0 and aspect != 1:
            image = image.resize((max(1, round(image.width * aspect)), image.height), Image.Resampling.LANCZOS)
        turn = TURNS.get(self._matrix(frame))
        return image if turn is None else image.transpose(turn)

    def _matrix(self, frame: av.VideoFrame) -> tuple[int, ...]:
        data = next((data for data in frame.side_data if data.type.name == TURNED_TO), None)
        if data is None:
            return 1, 0, 0, 1
        a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
        across, down = max(abs(a), abs(b)) or 1, max(abs(c), abs(d)) or 1  # scaling is handled by the aspect ratio
        matrix = tuple(round(value, 2) for value in (a / across, b / across, c / down, d / down))
        if not any(matrix):
            return 1, 0, 0, 1
        if matrix not in TURNS:
            self._note(f"'{self.path}' has a rotation that is not a quarter turn, which is ignored")
        return matrix

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """Convert a frame to RGB, uint8 [H, W, 3]."""
        transfer = int(self._stream.codec_context.color_trc)
        if transfer in _HDR:
            raise ValueError(
                f"'{self.path}' is HDR video, {_HDR[transfer]}, whose colours a film cannot represent; convert "
                'it to SDR first (phones and editors call it "SDR" or "most compatible")'
            )
        if int(self._stream.codec_context.color_primaries) in _WIDE:
            self._note(
                f"'{self.path}' has wide colours, {_WIDE[int(self._stream.codec_context.color_primaries)]}, which "
                "are not converted: they appear a little paler"
            )
        if any(part.is_alpha for part in frame.format.components):
            return self._over_background(frame)
        if int(frame.colorspace) == _UNSPECIFIED and frame.height >= _HIGH:
            return frame.reformat(
                format="rgb24", src_colorspace=Colorspace.ITU709, dst_colorspace=Colorspace.ITU601
            ).to_ndarray()
        return frame.to_ndarray(format="rgb24")

    def _over_background(self, frame: av.VideoFrame) -> np.ndarray:
        picture = Image.fromarray(frame.to_ndarray(format="rgba"))
        if picture.getchannel("A").getextrema()[0] < 255:
            self._note(f"'{self.path}' is transparent in places: they are white here")
        page = Image.new("RGB", picture.size, BACKGROUND)
        page.paste(picture.convert("RGB"), mask=picture.getchannel("A"))
        return np.asarray(page)


_KINDS = {"audio": "sound", "subtitle": "subtitles", "data": "data", "attachment": "attachments"}


def _is_cover(stream) -> bool:
    """Return whether a track is a cover picture for sound, as of an album."""
    disposition = getattr(stream, "disposition", 0)
    attached = getattr(type(disposition), "attached_pic", None)
    return bool(attached is not None and disposition & attached)


def _first_field(image: Image.Image) -> Image.Image:
    """Return every second line, stretched to the picture's height."""
    lines = Image.fromarray(np.asarray(image)[::2])
    return lines.resize(image.size, Image.Resampling.BILINEAR)


class _Clock:
    """Times of frames in seconds after the first, from time stamps that may be missing, equal or decreasing."""

    def __init__(self, rate: Fraction | None):
        self._step = 1 / float(rate) if rate else None
        self._offset: float | None = None
        self._times: list[float] = []
        self._gaps: list[float] = []
        self._last: float | None = None
        self._same = 0  # consecutive frames with the same stamp as the one before
        self.backwards: list[int] = []
        self.stalled_at = 0  # first frame without a stamp of its own; 0: none

    def next(self, frame: av.VideoFrame) -> tuple[float, float | None]:
        """Return (time, duration or None) of the next frame."""
        lasts = getattr(frame, "duration", None)
        self._last = float(lasts * frame.time_base) if lasts and frame.time_base else None
        if not self._times:
            self._offset = frame.time or 0.0
            self._times.append(0.0)
            return 0.0, self._last
        time = self._times[-1] + self.interval if frame.time is None else frame.time - self._offset
        self._same = self._same + 1 if abs(time - self._times[-1]) < 1e-6 else 0
        if self._same > 1:  # two pictures may share a time; more have no valid one
            self.stalled_at = self.stalled_at or len(self._times)
            self._offset -= self.interval
            time = self._times[-1] + self.interval
        if time < self._times[-1] - 1e-6:
            self.backwards.append(len(self._times))
            following = self._times[-1] + self.interval
            self._offset += time - following
            time = following
        if time > self._times[-1]:
            self._gaps.append(time - self._times[-1])
        self._times.append(time)
        return time, self._last

    @property
    def interval(self) -> float:
        """The usual interval between frames."""
        return median(self._gaps[-_RECENT:]) if self._gaps else self._last or self._step or 1 / 16

    @property
    def end(self) -> float:
        return self._times[-1] + (self._last or self.interval) if self._times else 0.0

    def holds(self) -> list[tuple[float, float]]:
        """Return the (start, end) of pictures that are held much longer than usual."""
        least = max(_LONG_HOLD, _OFTEN * median(self._gaps or [0]))
        return [pair for pair in pairwise([*self._times, self.end]) if pair[1] - pair[0] > least]


@contextmanager
def open_footage(path: str | os.PathLike, otherwise: str = "not a video") -> Iterator[Footage]:
    """Open a video file. ValueError if it is not one, saying that it is `otherwise`, or if it has no pictures."""
    try:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                check_boxes(file)
        container = av.open(os.fspath(path), metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"'{path}' is {otherwise} that can be read ({error})") from error
    with container:
        yield Footage(path, container)
