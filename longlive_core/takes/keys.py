"""Chunk keys: a hash of everything that determines a chunk of latents. Equal keys mean equal latents.

A key includes the key before it in the shot, so it identifies the shot's whole past and nothing later. It includes
the prompt's text, not its embedding, whose bits differ between devices: stored latents are reused on any device.

A key hashes: the key before it (for a shot's first chunk `Origin`, see below), the prompt's text and weights, the
transition if the prompt starts there, and the segment's own seed.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch

from ..config import StreamConfig
from ..timeline import Plan, PlannedPrompt

KEY_FORMAT = 1  # hashed into every key: with another number all stored chunks would be unknown
_KEY_LENGTH = 32  # hexadecimal digits
_UNIT_NAME = 8


@dataclass(frozen=True)
class Origin:
    """What determines all chunks of a film, besides its prompts.

    Attributes:
        model: identity of the weights, with LoRAs and quantisation.
        text_encoder: identity of the text encoder.
        dtype: the dtype the model computes in, such as "bfloat16".
        stream: the settings of the run.
        size: (width, height) in pixels.
        seed: seed of the noise.
        aliases: the same origin under names of earlier versions; a store may hold takes by these.
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
        """Return it as plain data, as in a take's manifest."""
        data = asdict(replace(self, aliases=()))
        del data["aliases"]
        return json.loads(json.dumps(data))

    def names(self) -> list[dict]:
        """Return it as plain data, once per name."""
        return [name.as_json() for name in (self, *self.aliases)]


@dataclass(frozen=True)
class VaeIdentity:
    """The identity of the VAE that decodes a take.

    Attributes:
        weights: identity of the weights.
        dtype: the dtype it computes in.
        width: channels of the layer next to the pixels.
        variant: a way of decoding that gives other bits than the plain one; empty for the plain one.
        aliases: the same VAE under names of earlier versions, and variants whose video may be reused.
    """

    weights: str
    dtype: str
    width: int
    variant: str = ""
    aliases: tuple[VaeIdentity, ...] = field(default=(), compare=False)

    def units(self, encoding: dict) -> list[str]:
        """Return the current and earlier names of its units of video. encoding: as plain data."""
        fps = encoding["fps"]
        rates = (int(fps) if fps == int(fps) else fps, float(fps))  # ComfyUI says 16.0, the command line 16
        names = [known._unit({**encoding, "fps": rate}) for known in (self, *self.aliases) for rate in rates]
        return list(dict.fromkeys(names))

    def _unit(self, encoding: dict) -> str:
        return digest([self.weights, self.dtype, encoding, *([self.variant] if self.variant else [])])[:_UNIT_NAME]


@dataclass(frozen=True)
class ShotKeys:
    """The keys of one shot's chunks; `start` is the number of its first chunk in the film."""

    start: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class StartChunks:
    """The chunks that a film begins with and does not render: of a picture, a clip, latents or another take.

    Attributes:
        keys: their keys.
        origin: the run that rendered them, from `Origin.as_json`; None if no run of the pack did.
        given: how many of them that run did not render itself.
        vae_width: width of the VAE whose latents they are; None: of the film's own VAE.
    """

    keys: tuple[str, ...] = ()
    origin: dict | None = None
    given: int = 0
    vae_width: int | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def foreign(self, origin: Origin) -> int:
        """Return how many of them a run of `origin` would not have rendered itself from the film's timeline."""
        return self.given if self.origin == origin.as_json() else len(self)

    def under(self, origin: Origin) -> StartChunks:
        """Return the same chunks; if their run is `origin` under any of its names, under its current name."""
        return replace(self, origin=origin.as_json()) if self.origin in origin.names() else self


def start_key(before: str, latents: bytes) -> str:
    """Return the key of a start chunk given as latents. before: the key of the chunk before it, or empty."""
    return digest([before, "given", hashlib.sha256(latents).hexdigest()])


def shots_of(
    plan: Plan, origin: Origin, given: StartChunks = StartChunks(), known: Sequence[ShotKeys] = (), same: int = 0
) -> list[ShotKeys]:
    """Return the chunk keys of each shot of a film. A shot's keys do not depend on the other shots.

    known, same: the keys under another plan whose first `same` chunks are the same; these are not hashed again.
    """
    shots: list[ShotKeys] = []
    for spans in _spans_by_shot(plan):
        start = spans[0][0].start_chunk
        before = next((shot.keys for shot in known[len(shots) : len(shots) + 1] if shot.start == start), ())
        shots.append(ShotKeys(start, tuple(_keys(spans, origin, given, before[: max(0, same - start)]))))
    return shots


# A prompt and the chunk at which it ends (exclusive).
_Span = tuple[PlannedPrompt, int]


def _spans_by_shot(plan: Plan) -> Iterator[list[_Span]]:
    prompts = plan.prompts
    spans: list[_Span] = []
    for prompt, end in zip(prompts, [*(later.start_chunk for later in prompts[1:]), plan.chunks], strict=True):
        if spans and prompt.transition == "cut":
            yield spans
            spans = []
        spans.append((prompt, end))
    yield spans


def _keys(spans: list[_Span], origin: Origin, given: StartChunks, known: tuple[str, ...]) -> list[str]:
    start, keys, events = spans[0][0].start_chunk, list(known), []
    key = keys[-1] if keys else digest({"format": KEY_FORMAT, **origin.as_json()})
    begun, foreign = len(given), given.origin != origin.as_json()
    done = start + len(keys)
    # Prompts during the start chunks enter the first key after them.
    skipped = 0 if done <= begun else bisect_right(spans, done, key=lambda span: span[1])
    for prompt, until in spans[skipped:]:
        event = prompt.transition if prompt.start_chunk > start else "start"
        events.append([prompt.start_chunk - start, prompt.mix, event])
        seed = [] if prompt.seed is None else [prompt.seed]
        first, then = (plain([prompt.mix, event, *seed])[1:] for event in (event, ""))  # the same for many chunks
        for chunk in range(max(prompt.start_chunk, done), until):
            if chunk < begun:
                key = given.keys[chunk]
            else:
                if chunk == begun > start and foreign:
                    # The start chunks enter by their content; how the cache is restored from them depends on this run.
                    key = digest([key, "onward", origin.as_json(), events])
                key = hashed(f'["{key}",{first if chunk == prompt.start_chunk else then}')
            keys.append(key)
    return keys


def plain(value) -> str:
    """Return plain data as the text that is hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def digest(value) -> str:
    """Return the hash of plain data."""
    return hashed(plain(value))


def hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]
