"""What a film and a store hold, read from their files and not through the pack: as small plain data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
from safetensors.torch import load_file

DATES = ("created", "used", "checksum")  # of a manifest; the checksum is of the dates too
PLACES = 8  # of a chunk's latents that are written down
GRID = (2, 3)  # parts of a frame, down and across
FRAMES = 4  # of a film that are looked at


def names_of_film(path: Path) -> dict[str, Any]:
    """Tags, streams, subtitles with their times, chapters."""
    with av.open(str(path)) as film:
        video = film.streams.video[0]
        said = {
            "tags": {name: film.metadata[name] for name in ("comment", "longlive") if name in film.metadata},
            "streams": [stream.type for stream in film.streams],
            "size": [video.width, video.height],
            "rate": str(video.average_rate),
            "frames": video.frames,
            "chapters": [
                [float(part["start"] * part["time_base"]), part["metadata"].get("title")] for part in film.chapters()
            ],
        }
    return {**said, "subtitles": _subtitles(path)}


def _subtitles(path: Path) -> list:
    with av.open(str(path)) as film:
        if not film.streams.subtitles:
            return []
        packets = [packet for packet in film.demux(film.streams.subtitles[0]) if packet.size > 2]
        return [
            [
                float(packet.pts * packet.time_base),
                float(packet.duration * packet.time_base),
                bytes(packet)[2:].decode(errors="replace"),
            ]
            for packet in packets
        ]


def numbers_of_film(path: Path) -> list[list[int]]:
    """Mean red, green and blue of each part of some frames, 0 to 255."""
    with av.open(str(path)) as film:
        frames = list(film.decode(video=0))
    places = np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
    chosen = [frames[at].to_ndarray(format="rgb24") for at in places]
    return [
        [
            round(float(part.mean()))
            for row in np.array_split(frame.astype(float), GRID[0])
            for tile in np.array_split(row, GRID[1], axis=1)
            for part in np.moveaxis(tile, -1, 0)
        ]
        for frame in chosen
    ]


def manifest_of(store: Path, take: str) -> dict[str, Any]:
    """Return it as stored on disk, without its dates."""
    manifest = json.loads((store / "takes" / take / "take.json").read_text(encoding="utf-8"))
    return {name: value for name, value in manifest.items() if name not in DATES}


def takes_of(store: Path) -> list[str]:
    """Ids, the one that was begun first first."""
    files = list((store / "takes").glob("*/take.json"))
    return [path.parent.name for path in sorted(files, key=lambda path: json.loads(path.read_text())["created"])]


def files_of(store: Path) -> list[str]:
    """Names of all chunks' files."""
    return sorted(path.name for path in (store / "chunks").rglob("*") if path.is_file())


def numbers_of_chunk(store: Path, key: str) -> list[float] | None:
    """Mean, spread, and some of the latents of a chunk; None where it is not rendered."""
    path = store / "chunks" / key[:2] / f"{key}.safetensors"
    if not path.exists():
        return None
    flat = load_file(path)["latents"].double().flatten()
    some = flat[:: flat.numel() // PLACES][:PLACES]
    return [round(float(value), 3) for value in (flat.mean(), flat.std(), *some)]
