"""The beginning of a Stream Sampler's film, from its inputs start_image, start_latent or take."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..longlive_core.film.start_inputs import check_given, check_latents, checked_pictures
from ..longlive_core.takes import clip_chunks
from . import compat
from .handles import TakeHandle
from .timeline import Timeline
from .validation.film import check_beginning

WITHOUT_EFFECT = {"noise_mask": "a film's beginning is used unchanged", "batch_index": "noise depends on the seed"}


@dataclass(frozen=True)
class Start:
    """given: normalised latents [1, C, T, h, w], a take to extend, or None. notes: hints for the user."""

    given: Tensor | TakeHandle | None = None
    notes: tuple[str, ...] = ()


def read_start(
    vae, timeline: Timeline, size: tuple[int, int], chunk: int, image=None, latent=None, take: TakeHandle | None = None
) -> Start:
    """Check the inputs and encode pictures. Raises ValueError for more than one input, and for an unsuitable one."""
    given = {"start_image": image, "start_latent": latent, "take": take}
    connected = [name for name, value in given.items() if value is not None]
    check_beginning(connected)
    try:
        if image is not None:
            return _from_image(vae, timeline, size, chunk, image)
        if latent is not None:
            return _from_latent(timeline, size, chunk, latent)
    except ValueError as error:
        raise ValueError(f"{connected[0]}: {error}") from error
    return Start(take)


def _from_image(vae, timeline: Timeline, size: tuple[int, int], chunk: int, image: Tensor) -> Start:
    notes: list[str] = []
    pictures = checked_pictures(image, size, notes.append)
    check_given(clip_chunks(len(pictures), chunk), timeline.plan(chunk).chunks)
    return Start(compat.encode_clip(vae, pictures, size, chunk), tuple(notes))


def _from_latent(timeline: Timeline, size: tuple[int, int], chunk: int, latent: dict) -> Start:
    samples = latent["samples"]
    if not isinstance(samples, Tensor):  # pictures and sound in one
        raise ValueError("the latent belongs to a model of video with sound; encode a clip with Wan 2.1's VAE")
    check_latents(samples, compat.LATENT_CHANNELS, size, chunk)
    check_given(samples.shape[2] // chunk, timeline.plan(chunk).chunks)
    notes = [f"start_latent's {name} has no effect: {why}" for name, why in WITHOUT_EFFECT.items() if name in latent]
    return Start(compat.normalised(samples), tuple(notes))
