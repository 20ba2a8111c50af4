"""A contact sheet: pictures of a finished film with their times and prompts, as one PNG."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from ..files import in_use, nofollow
from ..words.visible import make_visible
from .video import part_path

_CELL_WIDTH = 320
_GAP = 12
_FONT_SIZE = 15
_PROMPT_LINES = 6


def contact_sheet(
    film: str | os.PathLike,
    png: str | os.PathLike,
    columns: int = 4,
    count: int = 12,
    every: float | None = None,
    prompts: Sequence[tuple[float, str]] | None = None,
) -> int:
    """Save pictures of a film, with their times and prompts below them, as one PNG; return their number.

    count: pictures, spread evenly over the film. every: seconds between pictures, instead of `count`.
    prompts: (start in seconds, text) in order of time; a picture shows the current text of its time. The
    built-in font has Latin letters only. Raises ValueError for a film that cannot be read and settings out of range.
    """
    if columns < 1 or count < 1 or (every is not None and not every > 0):
        raise ValueError(f"columns {columns}, count {count}, every {every}: all must be above 0")
    cells = [(seconds, _fit(picture)) for seconds, picture in _pictures(film, count, every)]
    font = ImageFont.load_default(size=_FONT_SIZE)
    labels = [[f"{seconds:.2f} s", *_wrap(_prompt_at(seconds, prompts or ()), font)] for seconds, _ in cells]
    sheet = _compose(cells, labels, min(columns, len(cells)), font)
    png = Path(png)
    part = part_path(png)
    try:
        with io.BufferedWriter(nofollow.create(part)) as file:
            sheet.save(file, format="PNG")
        in_use.replace(part, png)
    except OSError as error:
        in_use.remove(part)
        raise ValueError(f"cannot write the contact sheet to '{png}' ({error.strerror})") from error
    return len(cells)


def _pictures(film: str | os.PathLike, count: int, every: float | None) -> Iterator[tuple[float, Image.Image]]:
    """Yield (seconds, picture) of the frames that a contact sheet shows, in one pass over the film; keep no frame."""
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


def _prompt_at(seconds: float, prompts: Sequence[tuple[float, str]]) -> str:
    # A prompt that starts between two frames belongs to the later one; half a millisecond is float noise.
    running = [text for start, text in prompts if start <= seconds + 5e-4]
    return running[-1] if running else ""


def _wrap(text: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Break a prompt into lines of the cell's width; what does not fit ends in dots."""
    lines, line = [], ""
    for word in make_visible(" ".join(text.split())).split():
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
    if len(lines) > _PROMPT_LINES:
        last = lines[_PROMPT_LINES - 1]
        while font.getlength(f"{last} ...") > _CELL_WIDTH:
            last = last[:-1]
        lines = [*lines[: _PROMPT_LINES - 1], f"{last} ..."]
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
