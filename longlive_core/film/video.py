"""Frames to MP4. A film is a sequence of *units*, each encoded separately, and is joined without encoding again.

A unit is one chunk's frames as a small MP4: H.264, yuv420p, one closed group of pictures from its own encoder. So an
interrupted film and an uninterrupted one have the same frames, and any units can be joined. Equal frames give equal
units, whatever the number of CPU cores.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..files import in_use, nofollow
from ..files.durable import sync_file, sync_folder
from .subtitles import Subtitle, SubtitleTrack, check_subtitles, hide_subtitles

# BT.601 matrix with BT.709 primaries and transfer, written into the stream. Players and decoders that ignore these tags
# assume BT.601 at these sizes, so colours are right either way.
_MATRIX_SMPTE170M, _PRIMARIES_BT709, _TRANSFER_BT709, _LIMITED_RANGE = 6, 1, 1, 1
# x264's output depends on the number of threads, so this is a constant, not the number of cores.
_ENCODER_THREADS = 4
_ENCODER_OPTIONS = {
    "preset": "medium",
    "sc_threshold": "0",  # one keyframe per unit
    "g": "1000000",
    # With mbtree, equal frames gave different files from run to run (libx264 of PyAV 18.1, widths such as 96, 208, 416
    # with B-frames, also on one thread): its assembly reads uninitialised memory.
    "mbtree": "0",
}
_MAX_CRF = 51
_REORDERED = 2  # frames by which a packet may be decoded before it is shown: x264's B-frames with a pyramid


def part_path(path: str | os.PathLike) -> Path:
    """Return the path of a film until it is finished."""
    path = Path(path)
    return path.with_name(path.name + ".part")


def check_writable(path: str | os.PathLike) -> None:
    """Raise ValueError if no film can be written to `path`; call it before hours of rendering, not after."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"'{path}' is a folder; give the film a file name, such as '{path / 'film.mp4'}'")
    if not path.parent.is_dir():
        raise ValueError(f"the folder '{path.parent}' does not exist; create it or write the film elsewhere")
    part = part_path(path)
    try:
        nofollow.create(part).close()
        part.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to '{path}' ({error.strerror}); choose a folder you may write to") from error


class FilmInUse(ValueError):
    """A film is finished, but a program has the old one open (Windows). kept: path of the finished film."""

    def __init__(self, path: Path, kept: Path):
        self.path, self.kept = path, kept
        super().__init__(f"'{path}' is in use by another program and cannot be replaced; the finished film is '{kept}'")


@dataclass(frozen=True)
class Encoding:
    """Settings by which frames are encoded to units. All units of a film share them.

    Attributes:
        width, height: pixels, even.
        fps: frames per second.
        crf: x264's quality, 0 (lossless) to 51; 18 looks like the original.
    """

    width: int
    height: int
    fps: float = 16
    crf: int = 18

    def __post_init__(self) -> None:
        width, height, crf, fps = self.width, self.height, self.crf, self.fps
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ValueError(f"a film of {width} x {height} pixels: H.264 needs an even width and height")
        if not 0 <= crf <= _MAX_CRF:
            raise ValueError(f"crf is {crf}; it goes from 0 (lossless) to {_MAX_CRF} (worst), usually 18")
        if not fps > 0:
            raise ValueError(f"fps is {fps}; it must be above 0")

    @property
    def rate(self) -> Fraction:
        return Fraction(self.fps).limit_denominator(1001)


def encode_unit(frames: np.ndarray, encoding: Encoding) -> bytes:
    """Encode frames, uint8 RGB [T, height, width, 3], T >= 1, to a unit. ValueError for another shape or dtype."""
    shape = (encoding.height, encoding.width, 3)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape or not len(frames):
        raise ValueError(
            f"frames are {frames.dtype} {frames.shape}; this film takes uint8 (T, {shape[0]}, {shape[1]}, 3)"
        )
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = _encoder(container, encoding)
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            picture = picture.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation="AREA",  # averages the colours of 2 x 2 pixels; the default smears hard edges
            )
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return target.getvalue()


def _encoder(container: av.container.OutputContainer, encoding: Encoding) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=encoding.rate)
    stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, "yuv420p"
    stream.options = {"crf": str(encoding.crf), **_ENCODER_OPTIONS}
    codec = stream.codec_context
    codec.thread_count, codec.thread_type = _ENCODER_THREADS, "FRAME"
    codec.colorspace, codec.color_range = _MATRIX_SMPTE170M, _LIMITED_RANGE
    codec.color_primaries, codec.color_trc = _PRIMARIES_BT709, _TRANSFER_BT709
    return stream


class _NewFile:
    """A newly created file for PyAV to write. (Given a path, PyAV would follow a link there.)"""

    def __init__(self, path: str | os.PathLike):
        self.name, self.raw = os.fspath(path), nofollow.create(path)
        self.seek, self.tell, self.close = self.raw.seek, self.raw.tell, self.raw.close

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:  # a nearly full disk accepts a part; the next write is an error
            left = left[self.raw.write(left) :]
        return len(data)

    def again(self, url: str, flags: int, options: dict) -> BinaryIO:
        """Open the same file for reading while it is written: FFmpeg moves the index to the front."""
        file = open(self.name, "rb", buffering=0)  # noqa: SIM115 - PyAV closes it
        if os.path.sameopenfile(file.fileno(), self.raw.fileno()):
            return file
        file.close()
        raise ValueError(f"'{self.name}' was replaced while it was written; keep other programs away from it")


class Joiner:
    """Joins units to one MP4, packet by packet; memory does not grow with the film.

    Args:
        path: the file, newly created: a link there is not followed.
        metadata: text stored in the file under any keys, as ComfyUI does with `prompt` and `workflow`.
        growing: fragmented, so that the film plays at any moment (up to the last unit but one); otherwise an ordinary
            MP4 with its index in front, which plays once it is closed.
        subtitles: in order of time; written as a subtitle track, off by default, and chapters (PyAV 16.1 or newer).
            Those at or after the film's end are left out. A growing film has none.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        metadata: Mapping[str, str] | None = None,
        growing: bool = False,
        subtitles: Sequence[Subtitle] = (),
    ):
        if growing and subtitles:
            raise ValueError("a growing film takes no subtitles: they cannot be written before its end")
        check_subtitles(subtitles)
        self._subtitles = subtitles
        self._track: SubtitleTrack | None = None
        flags = "frag_keyframe+empty_moov+default_base_moof" if growing else "+faststart"
        self._file = _NewFile(path)
        self._container = av.open(
            self._file,
            "w",
            format="mp4",
            io_open=self._file.again,
            options={"movflags": f"{flags}+use_metadata_tags", **({"flush_packets": "1"} if growing else {})},
        )
        for key, value in (metadata or {}).items():
            self._container.metadata[key] = value
        self._stream: av.VideoStream | None = None
        self.frames = 0

    def add(self, unit: bytes | str | os.PathLike) -> None:
        """Append a unit. ValueError if it was encoded with other settings than the first."""
        with av.open(io.BytesIO(unit) if isinstance(unit, bytes) else os.fspath(unit)) as source:
            stream = source.streams.video[0]
            packets = [packet for packet in source.demux(stream) if packet.size]
            if self._stream is None:
                self._stream = self._container.add_stream_from_template(stream)
                self._like = stream.codec_context.extradata
                if self._subtitles:
                    self._track = SubtitleTrack(self._container, self._subtitles, stream.time_base, packets[0].duration)
            if stream.codec_context.extradata != self._like:
                raise ValueError("the units of this film were encoded in different ways; encode them again")
            if self._track is not None:
                self._track.write_until(self.frames + len(packets))
            for order, packet in enumerate(packets):
                # Decoding times must increase through the film. A unit's own times start as early as it needs, later in
                # a unit of one frame than in a longer one, so they would decrease where two units meet.
                frame = packet.duration
                packet.pts += self.frames * frame
                packet.dts = (self.frames + order - _REORDERED) * frame
                packet.stream = self._stream
                self._container.mux(packet)
            self.frames += len(packets)

    def close(self) -> None:
        """Finish the file."""
        track, self._track = self._track, None
        with contextlib.closing(self._file):
            try:
                if track is not None:
                    track.close(self.frames)
            finally:
                self._container.close()
            if track is not None:
                hide_subtitles(self._file.raw)


class FilmWriter:
    """Write frames to an MP4 as they arrive; memory does not grow with the film.

    The film is written to `PATH.part` and renamed by `close` (or the end of a `with` block). An exception inside the
    block removes the part. Attributes: path, encoding, frames (written so far).

    path: the file; its folder must exist. width, height, fps, crf: see `Encoding`. metadata, subtitles: see
    `Joiner`. Raises ValueError for invalid settings.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        width: int,
        height: int,
        fps: float = 16,
        crf: int = 18,
        metadata: Mapping[str, str] | None = None,
        subtitles: Sequence[Subtitle] = (),
    ):
        self.path, self.encoding = Path(path), Encoding(width, height, fps, crf)
        check_writable(path)
        self._part = part_path(path)
        self._joiner: Joiner | None = Joiner(self._part, metadata, subtitles=subtitles)
        self.frames = 0

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, frames: np.ndarray) -> None:
        """Append frames, uint8 RGB [T, height, width, 3], as one unit."""
        self.add(encode_unit(frames, self.encoding))

    def add(self, unit: bytes | str | os.PathLike) -> None:
        """Append a unit."""
        if self._joiner is None:
            raise ValueError(f"the film '{self.path}' is finished; nothing can be added to it")
        self._joiner.add(unit)
        self.frames = self._joiner.frames

    def close(self) -> None:
        """Finish the film and rename it; a second call does nothing. FilmInUse if a program has the old one open."""
        if self._joiner is None:
            return
        if self.frames == 0:
            self.abort()
            raise ValueError(f"no frame was written to '{self.path}', so there is no film")
        try:
            self._joiner.close()
            sync_file(self._part)  # otherwise a loss of power may replace the old film by an empty one
        except BaseException:
            self.abort()
            raise
        self._joiner = None
        self._name_film()

    def _name_film(self) -> None:
        try:
            in_use.replace(self._part, self.path)
        except PermissionError as error:
            reason = error
        else:
            sync_folder(self.path.parent)
            return
        for spare in in_use.spare_names(self.path):
            if not spare.exists():  # otherwise it is the user's file
                with contextlib.suppress(OSError):
                    os.replace(self._part, spare)
                    raise FilmInUse(self.path, spare) from reason
        raise FilmInUse(self.path, self._part) from reason

    def abort(self) -> None:
        """Discard the film: the part is removed, an older film of that name is kept."""
        if self._joiner is None:
            return
        joiner, self._joiner = self._joiner, None
        try:
            joiner.close()
        except (OSError, ValueError):
            pass  # the trailer of a discarded film may fail; report the error that led here
        finally:
            in_use.remove(self._part)
