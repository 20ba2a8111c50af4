"""Chunk keys: what a chunk of latents follows from, as a hash. Equal keys, equal latents.

A key holds the key before it in the shot, so it stands for the shot's whole past and for nothing later. Of the prompt
it holds the text, not the embedding, whose bits differ between devices: stored latents are reused as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

import torch

from ..config import StreamConfig
from ..timeline import Plan

KEY_FORMAT = 1  # hashed into every key: another number would make all stored chunks unknown
_KEY_LENGTH = 32  # hexadecimal digits
_UNIT_NAME = 8


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
        aliases: the same under names of earlier versions, by which takes may lie in a store.
    """

    model: str
    text_encoder: str
    dtype: str
    stream: StreamConfig
    size: tuple[int, int]
    seed: int
    aliases: tuple[Origin, ...] = field(default=(), compare=False)

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def as_json(self) -> dict:
        """Plain data, as it stands in a take's manifest."""
        data = asdict(replace(self, aliases=()))
        del data["aliases"]
        return json.loads(json.dumps(data))

    def names(self) -> list[dict]:
        """As plain data, under every name."""
        return [name.as_json() for name in (self, *self.aliases)]


@dataclass(frozen=True)
class Vae:
    """What a take is decoded by.

    Attributes:
        weights: their identity.
        dtype: what it computes in.
        width: channels next to the pixels.
        variant: a way of decoding that gives other bits than the plain one; empty for the plain one.
        aliases: the same under names of earlier versions, and other ways whose video may stay in a film.
    """

    weights: str
    dtype: str
    width: int
    variant: str = ""
    aliases: tuple[Vae, ...] = field(default=(), compare=False)

    def units(self, encoding: dict) -> list[str]:
        """What units of video that it makes are called, and were called before. encoding: as plain data."""
        fps = encoding["fps"]
        rates = (int(fps) if fps == int(fps) else fps, float(fps))  # ComfyUI says 16.0, the command line 16
        names = [known._unit({**encoding, "fps": rate}) for known in (self, *self.aliases) for rate in rates]
        return list(dict.fromkeys(names))

    def _unit(self, encoding: dict) -> str:
        return digest([self.weights, self.dtype, encoding, *([self.variant] if self.variant else [])])[:_UNIT_NAME]


@dataclass(frozen=True)
class ShotKeys:
    """Keys of one shot's chunks; `start` is its first chunk in the film."""

    start: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """The chunks a film begins with that it does not make: of a picture, a clip, latents or another take.

    Attributes:
        keys: theirs.
        origin: the run they came from, from `Origin.as_json`; None where no run of the pack made them.
        given: how many of them that run did not make itself.
        vae_width: of the VAE whose latents they are; None: of the film's own.
    """

    keys: tuple[str, ...] = ()
    origin: dict | None = None
    given: int = 0
    vae_width: int | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def foreign(self, origin: Origin) -> int:
        """How many of them a run would not have made itself, given the film's timeline."""
        return self.given if self.origin == origin.as_json() else len(self)

    def under(self, origin: Origin) -> Given:
        """The same chunks, of a run that `origin` knows by an old name under its new one."""
        return replace(self, origin=origin.as_json()) if self.origin in origin.names() else self


def given_key(before: str, latents: bytes) -> str:
    """The key of a chunk that was given as latents; `before` is that of the chunk before it, or empty."""
    return digest([before, "given", hashlib.sha256(latents).hexdigest()])


def shots_of(plan: Plan, origin: Origin, given: Given = Given()) -> list[ShotKeys]:
    """The chunk keys of a film, shot by shot. A shot's keys do not depend on the other shots."""
    starts = [0, *(s.start_chunk for s in plan.segments[1:] if s.transition == "cut"), plan.chunks]
    return [ShotKeys(start, tuple(_keys(plan, origin, given, start, end))) for start, end in zip(starts, starts[1:])]  # noqa: B905


def _keys(plan: Plan, origin: Origin, given: Given, start: int, end: int) -> Iterator[str]:
    key = digest({"format": KEY_FORMAT, **origin.as_json()})
    prompts = {prompt.start_chunk: prompt for prompt in plan.prompts}
    mix, seed, events = (), None, []
    for chunk in range(start, end):
        event = ""
        if chunk in prompts:
            mix, seed, event = prompts[chunk].mix, prompts[chunk].seed, prompts[chunk].transition
            event = event if chunk > start else "start"
            events.append([chunk - start, mix, event])
        if chunk < len(given):
            key = given.keys[chunk]
        else:
            if chunk == len(given) > start and given.origin != origin.as_json():
                # The chunks before count by their content; how they are read back in is this run's.
                key = digest([key, "onward", origin.as_json(), events])
            key = digest([key, mix, event, *([] if seed is None else [seed])])
        yield key


def digest(value) -> str:
    """A hash of plain data."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]
