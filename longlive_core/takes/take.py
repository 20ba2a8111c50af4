"""A take: a film whose every chunk lies in the store as soon as it is made, and is never made twice.

Rendering a take goes through its chunks in order. A chunk of latents that is stored is not computed, a unit of video
that is stored is not decoded or encoded; whatever is missing is made from what is there, exactly as an uninterrupted
render would have made it. So a render that was stopped, lengthened, or changed late in its timeline goes on where it
can, and a change of the encoder's settings decodes without rendering.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..film import to_frames
from ..metadata import captions_of_take
from ..model import CausalWan
from ..noise import AddressedNoise
from ..nonfinite import check_pixels
from ..rollout import OnStep, PromptSpan, rollout
from ..timeline import Plan, shot_boundary
from ..vae import StreamingDecoder
from ..video import Encoding, FilmWriter, Joiner, encode_unit
from .keys import Origin, ShotKeys, digest, shots_of
from .store import Manifest, StoredLatents, TakeError, TakeStore
from .why import why

DECODER_REACH = 40  # latent frames after which Wan's VAE decoder remembers nothing of what was before, to the last bit
_UNIT_NAME = 8  # hexadecimal digits

# (chunk of the film, its frames uint8 [T, H, W, 3], or None where nothing was decoded)
OnChunk = Callable[[int, np.ndarray | None], None]


@dataclass
class Take:
    """One film in a store. Make it by `open_take`."""

    store: TakeStore
    manifest: Manifest
    plan: Plan
    origin: Origin
    encoding: Encoding
    shots: list[ShotKeys]

    @property
    def film_path(self) -> Path:
        """The film: all of it, or what there was when the last render began or ended."""
        return self.store.take_folder(self.manifest.id) / "film.mp4"

    @property
    def growing_path(self) -> Path:
        """The film while it is rendered, playable at any moment; the newest chunk may wait for the next."""
        return self.store.take_folder(self.manifest.id) / "growing.mp4"

    def stored(self, shot: ShotKeys) -> int:
        """How many chunks of a shot are there, from its start on."""
        missing = (index for index, key in enumerate(shot.keys) if not self.store.has_latents(key))
        return next(missing, len(shot.keys))

    @property
    def reused(self) -> int:
        """Chunks that need no rendering."""
        return sum(self.stored(shot) for shot in self.shots)

    @property
    def has_film(self) -> bool:
        """Whether there is a first chunk to play."""
        return self.store.has_unit(self.manifest.keys[0], self.manifest.unit)

    def frames_of(self, chunk: int) -> int:
        """Pixel frames of a chunk of the film."""
        start = max(shot.start for shot in self.shots if shot.start <= chunk)
        inside, size = chunk - start, self.plan.chunk
        return shot_boundary(inside + 1, size) - shot_boundary(inside, size)

    def join(self, path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> int:
        """See `join`."""
        return join(self.store, self.manifest, path, metadata)


def join(store: TakeStore, take: Manifest, path: str | os.PathLike, metadata: Mapping[str, str] | None = None) -> int:
    """Write what is there of a take as one MP4, up to the first gap, units copied as they are; returns the frames."""
    with FilmWriter(path, **take.encoding, metadata=metadata, captions=captions_of_take(take)) as film:
        for key in take.keys:
            if not store.has_unit(key, take.unit):
                break
            film.add(store.unit_path(key, take.unit))
    return film.frames


def open_take(store: TakeStore, timeline: str, plan: Plan, origin: Origin, encoding: Encoding, vae: str) -> Take:
    """The take of this film: a new one, or the one that was begun before.

    Args:
        timeline: the text as written.
        vae: identity of the VAE, with its dtype.
    """
    shots = shots_of(plan, origin)
    unit = digest([vae, asdict(encoding)])[:_UNIT_NAME]
    manifest = Manifest(
        id=digest([[shot.keys for shot in shots], unit])[:12], timeline=timeline, origin=origin.as_json(),
        segments=[{"chunk": s.start_chunk, "transition": s.transition, "text": s.text} for s in plan.segments],
        shots=[list(shot.keys) for shot in shots], encoding=asdict(encoding), unit=unit,
    )  # fmt: skip
    with contextlib.suppress(TakeError):  # none yet, or damaged; its chunks are found by their keys in any case
        manifest.created = store.read_manifest(manifest.id).created
    store.write_manifest(manifest)
    return Take(store, manifest, plan, origin, encoding, shots)


def reuse(take: Take) -> str:
    """What is reused and why the rest is not, for people: "prompt 4 changed: 38 of 60 chunks reused"."""
    count = f"{take.reused} of {take.plan.chunks} chunks reused"
    if take.reused == take.plan.chunks:
        return f"take {take.manifest.id}: {count}"
    reason = why(take.store, take.manifest)
    return f"take {take.manifest.id}: {f'{reason}: ' if reason else ''}{count}"


def render_take(take: Take, model: CausalWan, decoder: StreamingDecoder, contexts: Mapping[str, Tensor],
                metadata: Mapping[str, str], on_chunk: OnChunk = lambda chunk, frames: None,
                on_step: OnStep | None = None) -> Path:  # fmt: skip
    """Make what is missing of a take; returns the path of its film.

    Whatever ends this early, an exception from a callback included, leaves a playable film of the chunks so far; then
    the exception goes on. TakeError where another process renders the same take, or the store takes no more.
    """
    with take.store.rendering(take.manifest.id):
        if take.has_film:
            take.join(take.film_path, metadata)  # before the growing one begins again from its first frame
        growing = Joiner(take.growing_path, metadata, growing=True)
        try:
            _render(take, model, decoder, contexts, growing, on_chunk, on_step)
        finally:
            growing.close()
            if growing.frames:
                take.join(take.film_path, metadata)
            take.growing_path.unlink(missing_ok=True)
    return take.film_path


@torch.inference_mode()
def _render(take: Take, model, decoder, contexts, growing: Joiner, on_chunk: OnChunk, on_step) -> None:
    store, unit = take.store, take.manifest.unit
    for shot in take.shots:
        decoding = _Decoding(decoder, StoredLatents(store, shot.keys))
        made = _latents(take, shot, model, contexts, on_step)
        for index, key in enumerate(shot.keys):
            latents, frames = next(made), None
            if not store.has_unit(key, unit):
                frames = decoding.frames(index, store.load_latents(key) if latents is None else latents, shot.start)
                store.save_unit(key, unit, encode_unit(frames, take.encoding))
            growing.add(store.unit_path(key, unit))
            on_chunk(shot.start + index, frames)


def _latents(take: Take, shot: ShotKeys, model, contexts, on_step) -> Iterator[Tensor | None]:
    """For each chunk of a shot: None where it was stored, else its latents, stored before they are yielded."""
    there = take.stored(shot)
    yield from (None for _ in range(there))
    if there == len(shot.keys):
        return
    end = shot.start + len(shot.keys)
    spans = [PromptSpan(max(0, s.start_chunk - shot.start), contexts[s.text], s.transition)
             for s in take.plan.segments if s.start_chunk < end and _end_of(take.plan, s) > shot.start]  # fmt: skip
    width, height = take.origin.size
    step = None if on_step is None else (lambda chunk, number: on_step(shot.start + chunk, number))
    chunks = rollout(model, spans, len(shot.keys), (height // 8, width // 8), take.origin.stream,
                     AddressedNoise(take.origin.seed), step, StoredLatents(take.store, shot.keys[:there]))  # fmt: skip
    for chunk in chunks:
        take.store.save_latents(shot.keys[chunk.index], chunk.latents.to(model.dtype))
        yield chunk.latents


def _end_of(plan: Plan, segment) -> int:
    return segment.start_chunk + segment.chunks


class _Decoding:
    """Decodes the chunks of a shot in any rising order, with what the decoder remembers as if all had been decoded."""

    def __init__(self, decoder: StreamingDecoder, latents: StoredLatents):
        self.decoder, self.latents, self.at = decoder, latents, -1

    def frames(self, index: int, latents: Tensor, shot_start: int) -> np.ndarray:
        if index != self.at:
            self.decoder.reset()
            for before in range(max(0, index - math.ceil(DECODER_REACH / latents.shape[2])), index):
                self.decoder.decode(self.latents[before])
        pixels = self.decoder.decode(latents)
        check_pixels(pixels, shot_start + index)
        self.at = index + 1
        return to_frames(pixels)
