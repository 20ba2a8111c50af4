"""The boxes of an MP4 (ISO base media format), found without reading their content, with limits on their size.

FFmpeg allocates as much memory as a box claims, twice as much for a tag. So untrusted files are checked here before
FFmpeg opens them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import unpack
from typing import BinaryIO

MIB = 2**20
LARGEST_INDEX = 128 * MIB  # the index of 24 hours at 60 frames per second takes about 60 MiB
LARGEST_TAGS = 32 * MIB  # ComfyUI's films contain their workflow, with its pictures
MOST_BOXES = 1_000_000  # growing films have two per chunk
_MEDIA = (b"mdat", b"free", b"skip", b"wide")  # of any size; never read whole
_FIRST = (b"ftyp", b"moov", b"styp", b"moof", b"pnot", *_MEDIA)

Span = tuple[int, int]


def boxes(file: BinaryIO, span: Span) -> Iterator[tuple[bytes, Span, int]]:
    """Yield (type, span of the content, claimed end) of the boxes that fill `span` of a file.

    Stops at an impossible box: some programs leave other bytes after the last box, and FFmpeg stops there, too.
    """
    at, end = span
    while at + 8 <= end:
        file.seek(at)
        size, kind, long_size = unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        header = 16 if size == 1 else 8
        size = {0: end - at, 1: long_size}.get(size, size)
        if size < header:
            return
        yield kind, (at + header, min(at + size, end)), at + size
        at += size


def inside(file: BinaryIO, kind: bytes, span: Span) -> Iterator[Span]:
    """Yield the spans of the contents of all boxes of one type among those that fill `span`."""
    return (content for found, content, _ in boxes(file, span) if found == kind)


def check_boxes(file: BinaryIO) -> None:
    """Raise ValueError if an MP4 has, or claims to have, an index or tags larger than any film's.

    Other file formats pass. The file position is reset to the start.
    """
    size = file.seek(0, os.SEEK_END)
    try:
        file.seek(4)
        if file.read(4) in _FIRST:
            _check_all(file, size)
    finally:
        file.seek(0)


def _check_all(file: BinaryIO, size: int) -> None:
    for number, (kind, content, end) in enumerate(boxes(file, (0, size))):
        if number == MOST_BOXES:
            raise ValueError(f"it has more than {MOST_BOXES} boxes")
        if kind in _MEDIA:
            continue
        _check_size(kind, end - content[0], LARGEST_INDEX)
        if kind == b"moov":
            for part, (begin, _), part_end in boxes(file, content):
                if part != b"trak":
                    _check_size(part, part_end - begin, LARGEST_TAGS)


def _check_size(kind: bytes, size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"its box {kind.decode('latin-1')!r} takes {size} bytes, and at most {most} are read")
