"""The manifest of a take: what the take is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..film.start_inputs import PIXELS
from ..timeline import Plan, read_exact, shot_boundary
from .checksums import UnitInfo
from .errors import TakeError
from .keys import digest

# Names in a take's folder. The growing film is the film while it is rendered.
MANIFEST, FILM, GROWING = "take.json", "film.mp4", "growing.mp4"
_AHEAD = 24 * 3600.0  # seconds by which the clocks of machines that share a store may differ


@dataclass
class Manifest:
    """The description of a take.

    Attributes:
        id: twelve hexadecimal digits, derived from shots and unit (`take_id`).
        timeline: the text as written.
        exact: the timeline of the same film with times in chunks.
        origin: the run's settings, from `Origin.as_json`.
        segments: chunk, transition and text of each prompt; seed and blend if it has them.
        shots: the chunk keys of each shot.
        encoding: width, height, fps, crf of its film.
        unit: name of the encoding in the units' file names.
        vae_width: width of the VAE whose latents these are.
        given: number of chunks at its start that its own run did not render.
        created, used: seconds since 1970, by a clock that may have been wrong.
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
        """Yield what is known of each chunk's unit of video, in order."""
        size, encoding = self.origin["stream"]["chunk"], self.encoding
        for shot in self.shots:
            for inside, key in enumerate(shot):
                frames = shot_boundary(inside + 1, size) - shot_boundary(inside, size)
                yield UnitInfo(key, self.unit, frames, (encoding["width"], encoding["height"]))

    def plan(self, fps: float | None = None) -> Plan:
        """Return the plan it was rendered by. fps: another rate than its own.

        TakeError if `exact` belongs to another film than the other fields; a checksum rules this out.
        """
        own, chunk, chunks = self.encoding["fps"], self.origin["stream"]["chunk"], len(self.keys)
        try:
            script = read_exact(self.exact)
            plan = script.plan(None, own, chunk, chunks=chunks)
        except ValueError as error:
            raise TakeError(damaged(self.id, f"its exact timeline is invalid: {error}")) from error
        prompts = [(segment["chunk"], segment["text"]) for segment in self.segments]
        if [(segment.start_chunk, segment.text) for segment in plan.segments] != prompts:
            raise TakeError(damaged(self.id, "its exact timeline has other prompts than its segments"))
        return plan if fps in (None, own) else script.plan(None, fps, chunk, chunks=chunks)

    @property
    def is_ahead(self) -> bool:
        """Whether it is dated in the future: some clock is wrong, or was."""
        return _is_ahead(self.used)

    @property
    def recency(self) -> tuple[bool, float]:
        """When it was used last, for comparing. A take dated ahead sorts first, as if unused for longest."""
        return not _is_ahead(self.used), self.used

    @property
    def newness(self) -> tuple[bool, float]:
        """When it was created, for comparing; see `recency`."""
        return not _is_ahead(self.created), self.created

    def frames(self, chunks: int) -> int:
        """Return the pixel frames of its first chunks."""
        size, frames = self.origin["stream"]["chunk"], 0
        for shot in self.shots:
            frames += shot_boundary(min(chunks, len(shot)), size)
            chunks -= min(chunks, len(shot))
        return frames

    def seconds(self, chunks: int) -> float:
        """Return the duration of its first chunks in seconds."""
        return self.frames(chunks) / self.encoding["fps"]


def _is_ahead(seconds: float) -> bool:
    return seconds > time.time() + _AHEAD


def take_id(shots: list[list[str]], unit: str) -> str:
    """Return the id of a take with the chunk keys of each shot and this name of the units of video."""
    return digest([shots, unit])[:12]


def damaged(take: str, reason: str) -> str:
    """Describe a take that cannot be read."""
    return f"take {take} is damaged ({reason}); {remedy(take)}"


def remedy(take: str) -> str:
    """Describe what to do about it."""
    return f"render its timeline again, which writes it anew from the stored chunks, or remove it: takes remove {take}"
