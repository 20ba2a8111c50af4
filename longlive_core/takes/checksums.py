"""Checksums of stored chunks: every file carries its key and a checksum of all its other bytes.

Latents are safetensors files: `latents`, and at the end of the file `checksum`, 16 bytes; the header holds the key. A
unit of video is an MP4 with one more box at its end, which players skip: its key, encoding and frames as JSON, and the
checksum. The checksum is BLAKE2b of every byte before it, so any change to a file is noticed. Files of earlier versions
have no checksum: only their key, shape, number of frames and size are compared.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import uuid
from dataclasses import dataclass

import av
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

CHECKSUM = 16  # bytes
_BOX = uuid.UUID("79563f31-1549-5178-9a1d-9d9ea2798e53").bytes  # UUID of the box at a unit's end
_KINDS = {b"ftyp", b"free", b"mdat", b"moov", b"uuid"}
_HEAD = struct.Struct(">I4s16s")  # header of an MP4 box of type "uuid": size, type, UUID


class Damaged(ValueError):
    """A file is not what was written. The message says what is wrong with it."""


@dataclass(frozen=True)
class UnitInfo:
    """What the reader of a unit of video already knows about it.

    Attributes:
        key: key of the chunk. unit: name of the encoding.
        frames: pixel frames. size: (width, height) in pixels.
    """

    key: str
    unit: str
    frames: int
    size: tuple[int, int]


def latents_file(key: str, latents: Tensor) -> bytes:
    """Return the content of the file for a chunk's latents, [1, C, T, h, w]."""
    empty = torch.zeros(CHECKSUM, dtype=torch.uint8)  # narrower than latents, so last in the file
    return _with_checksum(save({"latents": latents.contiguous().cpu(), "checksum": empty}, {"key": key})[:-CHECKSUM])


def read_latents(data: bytes, key: str, shape: tuple[int, ...] | None) -> tuple[Tensor, bool]:
    """Return latents [1, C, T, h, w] in their dtype, whether the file has a checksum.

    shape: (T, h, w), if known. Raises Damaged if the file does not belong to this chunk.
    """
    try:
        tensors, header = load(data), _header(data)
    except (SafetensorError, ValueError) as error:
        raise Damaged(f"it is not a safetensors file ({error})") from error
    if not {"latents"} <= set(tensors) <= {"latents", "checksum"}:
        raise Damaged(f"it holds {', '.join(sorted(tensors)) or 'nothing'} in place of latents")
    if "checksum" in tensors:
        _verify_checksum(data)
    _check("key", header.get("key", key), key)
    latents = tensors["latents"]
    if latents.ndim != 5 or latents.shape[0] != 1 or tuple(latents.shape[2:]) != (shape or latents.shape[2:]):
        raise Damaged(f"its latents have the shape {tuple(latents.shape)}, this chunk's (1, C, *{shape})")
    return latents, "checksum" in tensors


def unit_file(facts: UnitInfo, video: bytes) -> bytes:
    """Return the content of the file for a unit, an MP4."""
    record = json.dumps({"key": facts.key, "unit": facts.unit, "frames": facts.frames, "size": facts.size}).encode()
    head = _HEAD.pack(_HEAD.size + len(record) + CHECKSUM, b"uuid", _BOX)
    return _with_checksum(video + head + record)


def read_unit(data: bytes, facts: UnitInfo) -> bool:
    """Check a unit's file; return whether it has a checksum. Raises Damaged if it is not this unit."""
    *_, (kind, start, end) = _boxes(data)
    if kind != b"uuid":
        _check_video(data, facts)
        return False
    _verify_checksum(data)
    try:
        record = json.loads(data[start + _HEAD.size : end - CHECKSUM])
        theirs = UnitInfo(record["key"], record["unit"], record["frames"], tuple(record["size"]))
    except (ValueError, KeyError, TypeError) as error:  # its checksum is valid, but another program wrote it
        raise Damaged(f"its record cannot be read ({error})") from error
    for what in ("key", "unit", "frames", "size"):
        _check(what, getattr(theirs, what), getattr(facts, what))
    return True


def _boxes(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return (type, start, end) of the boxes of an MP4. Raises Damaged if they are not those of a unit."""
    found, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, at, at + size))
        at += max(size, 8)
    kinds = [kind for kind, _, _ in found]
    if at != len(data) or kinds[-1:] not in ([b"moov"], [b"uuid"]) or not set(kinds) <= _KINDS:
        raise Damaged("it is not a complete MP4")
    if kinds[-1] == b"uuid" and data[found[-1][1] + 8 : found[-1][1] + _HEAD.size] != _BOX:
        raise Damaged("it ends with a box of another program")
    return found


def _check_video(data: bytes, facts: UnitInfo) -> None:
    try:
        with av.open(io.BytesIO(data)) as file:
            stream = file.streams.video[0]
            frames = sum(1 for packet in file.demux(stream) if packet.size)
            size = (stream.width, stream.height)
    except (av.FFmpegError, IndexError) as error:
        raise Damaged(f"it is not a video ({error})") from error
    _check("frames", frames, facts.frames)
    _check("size", size, facts.size)


def _check(what: str, theirs, ours) -> None:
    if theirs != ours:
        raise Damaged(f"its {what} is {theirs}, this chunk's is {ours}")


def _header(data: bytes) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]).get("__metadata__") or {}


def _with_checksum(data: bytes) -> bytes:
    return data + _checksum(data)


def _verify_checksum(data: bytes) -> None:
    view = memoryview(data)
    if _checksum(view[:-CHECKSUM]) != view[-CHECKSUM:]:
        raise Damaged("its checksum does not match")


def _checksum(data) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM).digest()
