"""The plan: a timeline in chunks and frames, which is shown before rendering and which the rollout follows.

The clock: latent frame 0 of a shot is 1 pixel frame, every other one 4. With C latent frames per chunk, chunk i of a
shot starts at pixel frame 0 (i = 0) or 4 C i - 3, and a shot of n chunks has 4 C n - 3 frames. A cut starts a new
shot, so the boundaries after it count from there.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from ..words.visible import make_visible
from ..words.wording import count, truncate
from .limits import MAX_CHUNKS, check_chunks, check_frames, most_frames

# Rounding errors in seconds * fps must not add a chunk: 0.1 * 3 is 0.30000000000000004.
NOISE = 1e-6


@dataclass(frozen=True)
class PlannedSegment:
    """One prompt in the film.

    text: with the anchor in front. start_chunk, chunks: in chunks of the film. start_frame: pixel frame of the film.
    start_seconds: the snapped time; requested_seconds: the time as written. line: where it is written.
    seed: of this segment's noise, or None for the film's. blend: chunks over which the previous prompt blends into
    this one, 0 for none; only the last segment's may reach the film's end or exceed it (Plan.resized).
    """

    text: str
    start_chunk: int
    chunks: int
    start_frame: int
    start_seconds: float
    requested_seconds: float
    transition: str
    line: int
    seed: int | None = None
    blend: int = 0

    @cached_property
    def prompt(self) -> PlannedPrompt:
        """The prompt that the rollout uses after the blend."""
        return PlannedPrompt(self.start_chunk + self.blend, ((self.text, 1.0),), self.transition, self.seed)


@dataclass(frozen=True)
class PlannedPrompt:
    """What the rollout uses from start_chunk on: texts with their weights, which add up to 1.

    seed: of the noise from here on, or None for the film's.
    """

    start_chunk: int
    mix: tuple[tuple[str, float], ...]
    transition: str
    seed: int | None


@dataclass(frozen=True)
class Plan:
    """What will be rendered: `chunks` chunks of `chunk` latent frames, `frames` pixel frames at `fps`."""

    chunks: int
    frames: int
    fps: float
    chunk: int
    segments: tuple[PlannedSegment, ...]
    hints: tuple[str, ...]
    anchor: str | None = None

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    @property
    def texts(self) -> tuple[str, ...]:
        """The distinct prompts, in order of first use."""
        return tuple(dict.fromkeys(segment.text for segment in self.segments))

    @cached_property
    def prompts(self) -> tuple[PlannedPrompt, ...]:
        """What the rollout uses, in order: one entry per segment, and one more for each chunk of its blend."""
        prompts = []
        for index, segment in enumerate(self.segments):
            # The weights of the whole blend, even if the film ends inside it: extending the film later changes nothing.
            for step in range(min(segment.blend, segment.chunks)):
                weight = (step + 1) / (segment.blend + 1)
                mix = ((self.segments[index - 1].text, 1 - weight), (segment.text, weight))
                prompts.append(PlannedPrompt(segment.start_chunk + step, mix, segment.transition, segment.seed))
            if segment.blend < segment.chunks:
                prompts.append(segment.prompt)
        return tuple(prompts)

    @property
    def longest_shot(self) -> int:
        """Chunks of the longest shot."""
        cuts = [segment.start_chunk for segment in self.segments[1:] if segment.transition == "cut"]
        return max(end - start for start, end in pairwise((0, *cuts, self.chunks)))

    @cached_property
    def most_chunks(self) -> int:
        """The most chunks that the film can have with a longer last segment; `resized` accepts no more."""
        shot = self._last_shot(self.segments)
        frames = math.floor(most_frames(self.fps, self.chunk)) - shot.start_frame
        return min(MAX_CHUNKS, shot.start_chunk + max(1, (frames + 3) // (4 * self.chunk)))

    @staticmethod
    def _last_shot(segments: Sequence[PlannedSegment]) -> PlannedSegment:
        """Return the first segment of the last shot."""
        return next((segment for segment in reversed(segments) if segment.transition == "cut"), segments[0])

    def segment_at(self, chunk: int) -> PlannedSegment:
        """Return the segment that a chunk of the film belongs to."""
        return self.segments[bisect_right(self.segments, chunk, key=lambda segment: segment.start_chunk) - 1]

    def chunk_at(self, seconds: float) -> int:
        """Return the chunk of the film that starts nearest to a time; the last segment has no end here."""
        frame = seconds * self.fps
        shots = [segment for segment in self.segments if segment.start_chunk == 0 or segment.transition == "cut"]
        shot = max((s for s in shots if s.start_frame <= max(0, frame)), key=lambda s: s.start_frame)
        return shot.start_chunk + nearest_chunk(frame - shot.start_frame, self.chunk)

    def describe(self) -> str:
        """Return the plan as text: length, one line per segment with its snapped time, and the hints."""
        length = f"{count(self.chunks, 'chunk')}, {count(self.frames, 'frame')}"
        lines = [f"{length}, {self.seconds:.2f} s at {self.fps:g} fps"]
        skip = 0
        if self.anchor is not None:
            lines.append(f"  anchor: {truncate(self.anchor, 100)}")
            skip = len(self.anchor) + 1
        for segment in self.segments:
            how = "" if segment.start_chunk == 0 else f" {segment.transition}"
            lines.append(
                f"  {segment.start_seconds:7.2f} s  chunk {segment.start_chunk:4d}  frame {segment.start_frame:5d}"
                f"{how:8s}{_remarks(segment)}  {truncate(segment.text[skip:], 60)}"
            )
        return make_visible("\n".join(lines + [f"hint: {hint}" for hint in self.hints]), lines=True)

    def resized(self, chunks: int) -> Plan:
        """Return the plan with that many chunks: a longer last segment, or without segments past the new end.

        A shortened plan may end inside a blend; its weights stay, so rendered chunks stay valid. Hints are kept.
        """
        check_chunks(chunks, self.fps)
        kept = list(self.segments[: bisect_left(self.segments, chunks, key=lambda segment: segment.start_chunk)])
        kept[-1] = replace(kept[-1], chunks=chunks - kept[-1].start_chunk)
        shot = self._last_shot(kept)
        frames = shot.start_frame + shot_boundary(chunks - shot.start_chunk, self.chunk)
        check_frames(frames, self.fps, self.chunk)
        return replace(self, chunks=chunks, frames=frames, segments=tuple(kept))


def _remarks(segment: PlannedSegment) -> str:
    """Return what describe() adds for a segment that snapped elsewhere or has a seed or a blend."""
    remarks = []
    if abs(segment.requested_seconds - segment.start_seconds) > 0.005:
        remarks.append(f" (requested {segment.requested_seconds:.2f} s)")
    if segment.seed is not None:
        remarks.append(f" (seed {segment.seed})")
    if segment.blend:
        remarks.append(f" (blend of {count(segment.blend, 'chunk')})")
    return "".join(remarks)


def shot_boundary(index: int, chunk: int) -> int:
    """Return the pixel frame of its shot at which chunk `index` starts; also the length of a shot of `index` chunks."""
    return 0 if index == 0 else 4 * chunk * index - 3


def nearest_chunk(frame: float, chunk: int) -> int:
    """Return the chunk that starts nearest to a pixel frame of its shot; in a tie, the later one."""
    below = max(0, math.floor((frame + 3) / (4 * chunk)))
    to_below, to_above = frame - shot_boundary(below, chunk), shot_boundary(below + 1, chunk) - frame
    return below + 1 if to_above <= to_below + NOISE else below
