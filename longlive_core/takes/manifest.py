"""The manifest of a take: what it is, as a file that anybody may have edited."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..beginnings import PIXELS
from ..timeline import shot_boundary
from .errors import TakeError, TakeMissing
from .proofs import Facts

MANIFEST = "take.json"  # its name in the take's folder
FORMAT = 1  # of the file; that of the keys is `keys.KEY_FORMAT`


@dataclass
class Manifest:
    """What a take is.

    Attributes:
        id: twelve hexadecimal digits.
        timeline: the text as written.
        exact: the same film's timeline with its times in chunks.
        origin: the run's settings, from `Origin.as_json`.
        segments: for each prompt its chunk, transition and text; seed and blend where it has them.
        shots: the chunk keys, shot by shot.
        encoding: width, height, fps, crf of its film.
        unit: name of the encoding in the units' file names.
        vae_width: of the VAE whose latents these are.
        given: how many chunks it begins with that it did not make itself.
        created, used: seconds since 1970.
    """

    id: str
    timeline: str
    exact: str
    origin: dict
    segments: list[dict]
    shots: list[list[str]]
    encoding: dict
    unit: str
    vae_width: int
    given: int = 0
    created: float = field(default_factory=time.time)
    used: float = field(default_factory=time.time)
    format: int = FORMAT

    @property
    def keys(self) -> list[str]:
        return [key for shot in self.shots for key in shot]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Latent frames, height and width of a chunk."""
        width, height = self.origin["size"]
        return self.origin["stream"]["chunk"], height // PIXELS, width // PIXELS

    def units(self) -> Iterator[Facts]:
        """What is known of each chunk's unit of video, in order."""
        size, encoding = self.origin["stream"]["chunk"], self.encoding
        for shot in self.shots:
            for inside, key in enumerate(shot):
                frames = shot_boundary(inside + 1, size) - shot_boundary(inside, size)
                yield Facts(key, self.unit, frames, (encoding["width"], encoding["height"]))

    def is_whole(self) -> bool:
        """Whether the fields are of their kinds; in a file that somebody edited they may be anything."""
        try:
            width, height = self.origin["size"]
            numbers = (width, height, self.origin["stream"]["chunk"], self.encoding["fps"], self.created, self.used)
            texts = [segment["text"] for segment in self.segments] + self.keys + [self.exact, self.unit]
            counts = [segment["chunk"] for segment in self.segments]
        except (KeyError, TypeError, ValueError):
            return False
        right = all(isinstance(number, (int, float)) for number in (*numbers, *counts))
        return bool(self.segments and self.keys and right and all(isinstance(text, str) for text in texts))

    def frames(self, chunks: int) -> int:
        """Pixel frames of its first chunks."""
        size, frames = self.origin["stream"]["chunk"], 0
        for shot in self.shots:
            frames += shot_boundary(min(chunks, len(shot)), size)
            chunks -= min(chunks, len(shot))
        return frames

    def seconds(self, chunks: int) -> float:
        """How long its first chunks last."""
        return self.frames(chunks) / self.encoding["fps"]

    def as_bytes(self) -> bytes:
        """The content of its file."""
        return json.dumps(vars(self), ensure_ascii=False, indent=1).encode()


def read_manifest(path: Path, take: str) -> Manifest:
    """The manifest of the take with that id. TakeError with the reason: none there, damaged, or of a newer version."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise TakeMissing(f"there is no take {take} in '{path.parents[2]}'; see `takes list`") from error
    except OSError as error:
        raise TakeError(f"'{path}' cannot be read ({error.strerror})") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise TakeError(f"'{path}' is damaged ({error}); its chunks are still there: render the timeline again, or "
                        "remove the take") from error  # fmt: skip
    version = data.get("format") if isinstance(data, dict) else None
    if version != FORMAT:
        raise TakeError(f"'{path}' has format {version!r}, this version reads {FORMAT}; "
                        "update the pack, or remove the take")  # fmt: skip
    try:
        manifest = Manifest(**data)
    except TypeError as error:
        raise TakeError(f"'{path}' is damaged ({error}); remove the take") from error
    if not manifest.is_whole():
        raise TakeError(f"'{path}' is damaged (a field is not what it should be); remove the take")
    if manifest.id != take:
        raise TakeError(f"'{path}' says that it is take {manifest.id}; it was moved or edited")
    return manifest
