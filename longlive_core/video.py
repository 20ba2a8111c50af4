"""Frames -> an MP4 that grows while it is rendered, and a contact sheet of a finished film.

H.264, yuv420p, moov atom in front. Every call of `write` begins with an IDR frame, so a film written chunk by chunk
can be cut between chunks without encoding again. Equal frames make equal files, whatever the number of CPU cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image, ImageDraw, ImageFont

# BT.601 matrix with BT.709 primaries and transfer, written into the stream. Players that ignore the tags assume 601
# at these sizes, and so do decoders that ignore them, so colours come back either way.
_MATRIX_SMPTE170M, _PRIMARIES_BT709, _TRANSFER_BT709, _LIMITED_RANGE = 6, 1, 1, 1
# x264's output depends on the number of threads, so it is a constant and not the number of cores.
_ENCODER_THREADS = 4
_ENCODER_OPTIONS = {
    "preset": "medium",
    "forced-idr": "1",
    "sc_threshold": "0",  # keyframes where chunks begin and nowhere else
    # With it, equal frames made different files, run by run (libx264 of PyAV 18.1, widths such as 96, 208, 416 with
    # B-frames, also on one thread): its assembly reads memory nobody wrote.
    "mbtree": "0",
}
_MAX_CRF = 51

_CELL_WIDTH = 320
_GAP = 12
_FONT_SIZE = 15
_CAPTION_LINES = 6


def part_path(path: str | os.PathLike) -> Path:
    """Where the film lies until it is finished."""
    path = Path(path)
    return path.with_name(path.name + ".part")


def check_writable(path: str | os.PathLike) -> None:
    """Raise ValueError if no film can be written to `path`; call it before the hours of rendering, not after."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"'{path}' is a folder; give the film a file name, such as '{path / 'film.mp4'}'")
    if not path.parent.is_dir():
        raise ValueError(f"the folder '{path.parent}' does not exist; create it or write the film elsewhere")
    part = part_path(path)
    try:
        part.open("wb").close()
        part.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to '{path}' ({error.strerror}); choose a folder you may write to") from error


class FilmWriter:
    """Write frames to an MP4 as they arrive; memory does not grow with the film.

    The film is written to `PATH.part` and gets its name when `close` (or the end of a `with` block) makes it final.
    An exception inside the block removes the part. Attributes: path, width, height, frames (written so far).

    path: the file; its folder must exist. width, height: pixels, even. fps: frames per second.
    crf: x264's quality, 0 (lossless) to 51; 18 looks like the original. metadata: text stored in the file under any
    keys, as ComfyUI does with `prompt` and `workflow`. Raises ValueError for all that cannot work.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        width: int,
        height: int,
        fps: float = 16,
        crf: int = 18,
        metadata: Mapping[str, str] | None = None,
    ):
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise ValueError(f"a film of {width} x {height} pixels: H.264 needs an even width and height")
        if not 0 <= crf <= _MAX_CRF:
            raise ValueError(f"crf is {crf}; it goes from 0 (lossless) to {_MAX_CRF} (worst), usually 18")
        if not fps > 0:
            raise ValueError(f"fps is {fps}; it must be above 0")
        check_writable(path)
        self.path, self.width, self.height, self.frames = Path(path), width, height, 0
        self._part = part_path(path)
        self._container = av.open(
            str(self._part), "w", format="mp4", options={"movflags": "+faststart+use_metadata_tags"}
        )
        for key, value in (metadata or {}).items():
            self._container.metadata[key] = value
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.options = {"crf": str(crf), **_ENCODER_OPTIONS}
        codec = self._stream.codec_context
        codec.thread_count, codec.thread_type = _ENCODER_THREADS, "FRAME"
        codec.colorspace, codec.color_range = _MATRIX_SMPTE170M, _LIMITED_RANGE
        codec.color_primaries, codec.color_trc = _PRIMARIES_BT709, _TRANSFER_BT709

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, frames: np.ndarray) -> None:
        """Append frames, uint8 RGB [T, height, width, 3]; the first of them becomes a keyframe."""
        if self._container is None:
            raise ValueError(f"the film '{self.path}' is finished; nothing can be added to it")
        shape = (self.height, self.width, 3)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != shape:
            raise ValueError(
                f"frames are {frames.dtype} {frames.shape}; this film takes uint8 (T, {shape[0]}, {shape[1]}, 3)"
            )
        for index, pixels in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            picture = picture.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                interpolation="AREA",  # averages the colours of 2 x 2 pixels; the default smears hard edges
            )
            picture.pts = self.frames
            picture.pict_type = PictureType.I if index == 0 else PictureType.NONE
            self._container.mux(self._stream.encode(picture))
            self.frames += 1

    def close(self) -> None:
        """Finish the film and give it its name; a second call does nothing."""
        if self._container is None:
            return
        if self.frames == 0:
            self.abort()
            raise ValueError(f"no frame was written to '{self.path}', so there is no film")
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except BaseException:
            self.abort()
            raise
        self._container = None
        try:
            os.replace(self._part, self.path)
        except OSError as error:
            # On Windows a player that shows the old film holds its name; the new one is whole and must not be lost.
            raise ValueError(
                f"'{self.path}' cannot be replaced ({error.strerror}); the finished film is '{self._part}': close "
                "what uses the old file, then rename it"
            ) from error

    def abort(self) -> None:
        """Drop the film: the part is removed, a film of that name from before stays."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            container.close()
        except (OSError, ValueError):
            pass  # the trailer of a film that is thrown away may fail; what led here is the error to report
        finally:
            self._part.unlink(missing_ok=True)


def contact_sheet(
    film: str | os.PathLike,
    png: str | os.PathLike,
    columns: int = 4,
    count: int = 12,
    every: float | None = None,
    captions: Sequence[tuple[float, str]] | None = None,
) -> int:
    """Save pictures of a film, with their times and prompts below them, as one PNG; returns how many.

    count: pictures, spread evenly over the film. every: seconds between pictures, instead of `count`.
    captions: (start in seconds, text) in order of time; a picture shows the text in force when it appears. The
    built-in font has Latin letters only. Raises ValueError for a film that cannot be read and settings out of range.
    """
    if columns < 1 or count < 1 or (every is not None and not every > 0):
        raise ValueError(f"columns {columns}, count {count}, every {every}: all must be above 0")
    cells = [(seconds, _fit(picture)) for seconds, picture in _pictures(film, count, every)]
    font = ImageFont.load_default(size=_FONT_SIZE)
    labels = [[f"{seconds:.2f} s", *_wrap(_caption_at(seconds, captions or ()), font)] for seconds, _ in cells]
    sheet = _compose(cells, labels, min(columns, len(cells)), font)
    png = Path(png)
    part = part_path(png)
    try:
        sheet.save(part, format="PNG")
        os.replace(part, png)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ValueError(f"cannot write the contact sheet to '{png}' ({error.strerror})") from error
    return len(cells)


def _pictures(film: str | os.PathLike, count: int, every: float | None) -> Iterator[tuple[float, Image.Image]]:
    """(seconds, picture) of the frames a contact sheet shows; one pass over the film, no frame is kept."""
    try:
        container = av.open(os.fspath(film))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read the film '{film}' ({error})") from error
    with container:
        if not container.streams.video:
            raise ValueError(f"'{film}' has no picture track")
        stream = container.streams.video[0]
        rate, total = stream.average_rate, stream.frames
        if not total or not rate:
            raise ValueError(f"'{film}' does not say how many frames it has; is it an MP4?")
        if every is None:
            count = min(count, total)
            wanted = {(2 * index + 1) * total // (2 * count) for index in range(count)}
        else:
            step = max(1, round(every * float(rate)))
            wanted = set(range(0, total, step))
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                yield float(index / rate), frame.to_image()


def _fit(picture: Image.Image) -> Image.Image:
    height = max(1, round(picture.height * _CELL_WIDTH / picture.width))
    return picture.resize((_CELL_WIDTH, height), Image.Resampling.LANCZOS)


def _caption_at(seconds: float, captions: Sequence[tuple[float, str]]) -> str:
    # A caption that starts between two frames belongs to the later one; half a millisecond is float noise.
    running = [text for start, text in captions if start <= seconds + 5e-4]
    return running[-1] if running else ""


def _wrap(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a caption into lines of the cell's width; what does not fit ends in dots."""
    lines, line = [], ""
    for word in text.split():
        joined = f"{line} {word}".strip()
        if font.getlength(joined) <= _CELL_WIDTH:
            line = joined
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > _CELL_WIDTH:  # scripts without spaces, and very long words
            fits = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or font.getlength(word[:n]) <= _CELL_WIDTH)
            lines.append(word[:fits])
            word = word[fits:]
        line = word
    lines += [line] if line else []
    if len(lines) > _CAPTION_LINES:
        last = lines[_CAPTION_LINES - 1]
        while font.getlength(f"{last} ...") > _CELL_WIDTH:
            last = last[:-1]
        lines = [*lines[: _CAPTION_LINES - 1], f"{last} ..."]
    return lines


def _compose(
    cells: list[tuple[float, Image.Image]], labels: list[list[str]], columns: int, font: ImageFont.FreeTypeFont
) -> Image.Image:
    line_height = _FONT_SIZE + 4
    picture_height = cells[0][1].height
    cell_height = picture_height + 6 + line_height * max(len(lines) for lines in labels) + _GAP
    rows = -(-len(cells) // columns)
    size = (_GAP + columns * (_CELL_WIDTH + _GAP), _GAP + rows * cell_height)
    sheet = Image.new("RGB", size, (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    for index, ((_, picture), lines) in enumerate(zip(cells, labels, strict=True)):
        x, y = _GAP + index % columns * (_CELL_WIDTH + _GAP), _GAP + index // columns * cell_height
        sheet.paste(picture, (x, y))
        for number, line in enumerate(lines):
            colour = (150, 200, 255) if number == 0 else (235, 235, 235)
            draw.text((x, y + picture_height + 6 + number * line_height), line, font=font, fill=colour)
    return sheet
