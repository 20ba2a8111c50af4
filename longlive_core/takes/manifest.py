"""The manifest of a take: what it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..film.start_inputs import PIXELS
from ..timeline import Plan, read_exact, shot_boundary
from .checksums import UnitInfo
from .errors import TakeError
from .keys import digest

MANIFEST = "take.json"  # its name in the take's folder
_AHEAD = 24 * 3600.0  # seconds by which clocks of machines that share a store may differ


@dataclass
class Manifest:
    """What a take is.

    Attributes:
        id: twelve hexadecimal digits, which follow from shots and unit (`take_id`).
        timeline: the text as written.
        exact: the same film's timeline with its times in chunks.
        origin: the run's settings, from `Origin.as_json`.
        segments: for each prompt its chunk, transition and text; seed and blend where it has them.
        shots: the chunk keys, shot by shot.
        encoding: width, height, fps, crf of its film.
        unit: name of the encoding in the units' file names.
        vae_width: of the VAE whose latents these are.
        given: how many chunks it begins with that it did not make itself.
        created, used: seconds since 1970, as a clock said that may have been wrong.
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

    @property
    def keys(self) -> list[str]:
        return [key for shot in self.shots for key in shot]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Latent frames, height and width of a chunk."""
        width, height = self.origin["size"]
        return self.origin["stream"]["chunk"], height // PIXELS, width // PIXELS

    def units(self) -> Iterator[UnitInfo]:
        """What is known of each chunk's unit of video, in order."""
        size, encoding = self.origin["stream"]["chunk"], self.encoding
        for shot in self.shots:
            for inside, key in enumerate(shot):
                frames = shot_boundary(inside + 1, size) - shot_boundary(inside, size)
                yield UnitInfo(key, self.unit, frames, (encoding["width"], encoding["height"]))

    def plan(self, fps: float | None = None) -> Plan:
        """What it was made by. fps: another rate than its own. TakeError where `exact` is of another film than the
        other fields, which a checksum rules out."""
        own, chunk, chunks = self.encoding["fps"], self.origin["stream"]["chunk"], len(self.keys)
        try:
            script = read_exact(self.exact)
            plan = script.plan(None, own, chunk, chunks=chunks)
        except ValueError as error:
            raise TakeError(damaged(self.id, f"its exact timeline is none: {error}")) from error
        said = [(segment["chunk"], segment["text"]) for segment in self.segments]
        if [(segment.start_chunk, segment.text) for segment in plan.segments] != said:
            raise TakeError(damaged(self.id, "its exact timeline has other prompts than its segments"))
        return plan if fps in (None, own) else script.plan(None, fps, chunk, chunks=chunks)

    @property
    def is_ahead(self) -> bool:
        """Whether it is dated later than now: some clock is wrong, or was."""
        return _is_ahead(self.used)

    @property
    def recency(self) -> tuple[bool, float]:
        """When it was used, to be compared. One that is dated ahead comes before all others: they were used since."""
        return not _is_ahead(self.used), self.used

    @property
    def newness(self) -> tuple[bool, float]:
        """When it was begun, to be compared as `recency` is."""
        return not _is_ahead(self.created), self.created

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


def _is_ahead(seconds: float) -> bool:
    return seconds > time.time() + _AHEAD


def take_id(shots: list[list[str]], unit: str) -> str:
    """What a take is called that has these chunk keys, shot by shot, and units of video of that name."""
    return digest([shots, unit])[:12]


def damaged(take: str, reason: str) -> str:
    """What is said of a take that cannot be read."""
    return f"take {take} is damaged ({reason}); {remedy(take)}"


def remedy(take: str) -> str:
    """What to do about it."""
    return f"render its timeline again, which writes it anew from what is there, or remove it: takes remove {take}"
