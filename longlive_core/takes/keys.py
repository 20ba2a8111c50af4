"""Chunk keys: what a chunk of latents follows from, as a hash. Equal keys, equal latents.

A key holds the key before it in the shot, so it stands for the shot's whole past and for nothing later. Of the prompt
it holds the text, not the embedding, whose bits differ between devices: stored latents are reused as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ..config import StreamConfig
from ..timeline import Plan

FORMAT = 1  # of everything that is hashed or stored
_KEY_LENGTH = 32  # hexadecimal digits


@dataclass(frozen=True)
class Origin:
    """What all chunks of a film follow from, beside its prompts.

    Attributes:
        model: identity of the weights, with LoRA and quantisation.
        text_encoder: identity of the text encoder.
        dtype: what the model computes in, such as "bfloat16".
        stream: the settings.
        size: (width, height) in pixels.
        seed: of the noise.
    """

    model: str
    text_encoder: str
    dtype: str
    stream: StreamConfig
    size: tuple[int, int]
    seed: int

    def as_json(self) -> dict:
        """Plain data, as it stands in a take's manifest."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class ShotKeys:
    """Keys of one shot's chunks; `start` is its first chunk in the film."""

    start: int
    keys: tuple[str, ...]


def shots_of(plan: Plan, origin: Origin) -> list[ShotKeys]:
    """The chunk keys of a film, shot by shot. A shot's keys do not depend on the other shots."""
    starts = [0, *(s.start_chunk for s in plan.segments[1:] if s.transition == "cut"), plan.chunks]
    return [ShotKeys(start, tuple(_keys(plan, origin, start, end))) for start, end in zip(starts, starts[1:])]  # noqa: B905


def _keys(plan: Plan, origin: Origin, start: int, end: int) -> Iterator[str]:
    key = digest({"format": FORMAT, **origin.as_json()})
    prompts = {segment.start_chunk: segment for segment in plan.segments}
    text = ""
    for chunk in range(start, end):
        event = ""
        if chunk in prompts:
            text, event = prompts[chunk].text, prompts[chunk].transition if chunk > start else "start"
        key = digest([key, text, event])
        yield key


def digest(value) -> str:
    """A hash of plain data."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]
