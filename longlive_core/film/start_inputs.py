"""Checks of what a film starts from, before anything is computed: pictures and latents given by the host.

Shapes: B films, C channels, T latent frames, h, w latent size; N pictures of H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..words.wording import count
from .pictures import BACKGROUND, Say, cropping_note

PIXELS = 8  # pixels per latent in height and width
_MOST, _LEAST = 1.5, -0.5  # range that sharpening and scaling may reach from 0 to 1


def check_given(given: int, chunks: int) -> None:
    """Raise ValueError if a film of `chunks` chunks has nothing left to render after `given` start chunks."""
    if given >= chunks:
        raise ValueError(
            f"the film has {count(given, 'start chunk')} and {chunks} in all, so there is "
            "nothing to render; make it longer, or start from less"
        )


def check_latents(latents: Tensor, channels: int, size: tuple[int, int], chunk: int) -> None:
    """Raise ValueError unless latents can be the first chunks of a film of (width, height)."""
    if latents.ndim != 5 or latents.shape[1] != channels:
        raise ValueError(
            f"the latent is {_shape(latents)}; Wan 2.1's are (1, {channels}, frames, height, width)"
            f"{_other_model(latents)}: encode a clip with Wan 2.1's VAE, or connect it to start_image"
        )
    batch, _, frames, height, width = latents.shape
    if batch != 1:
        raise ValueError(
            f"the latent holds {batch} clips, and a film starts from one: select one of them (Latent From "
            "Batch, length 1)"
        )
    if (width * PIXELS, height * PIXELS) != tuple(size):
        raise ValueError(
            f"the latent is of {width * PIXELS} x {height * PIXELS} pixels, the film has {size[0]} x "
            f"{size[1]}: set the film's width and height to the latent's, or connect the clip to "
            "start_image, which is scaled"
        )
    if not frames or frames % chunk:
        below = frames // chunk * chunk
        kept = (
            f"keep {below} or encode a clip of {4 * (below + chunk) - 3} pictures"
            if below
            else (f"encode a clip of {4 * chunk - 3} pictures or more")
        )
        raise ValueError(
            f"the latent has {frames} latent frames; a film starts from whole chunks, a multiple of "
            f"{chunk}: {kept}, or connect the picture or clip to start_image"
        )
    if not torch.isfinite(latents.float()).all():
        raise ValueError(
            "the latent holds NaN or infinity: check the node that created it (a VAE in fp16 may; choose fp32 or bf16)"
        )
    _check_not_empty(latents[0])


def empty_frames(latents: Tensor) -> list[int]:
    """Return the frames of latents [C, T, h, w] that encode no picture: every channel is constant."""
    flat = latents.flatten(2)
    return (flat.amax(-1) == flat.amin(-1)).all(dim=0).nonzero().flatten().tolist()


def _check_not_empty(latents: Tensor) -> None:
    empty = empty_frames(latents)
    if len(empty) == latents.shape[1]:
        raise ValueError(
            "the latent is empty: all its numbers are the same, as from an Empty Latent node, which "
            "is not a picture to start from; leave start_latent unconnected for a film without a "
            "start, or connect a clip that a VAE encoded"
        )
    if empty:
        raise ValueError(
            f"the latent is empty in {len(empty)} of its {latents.shape[1]} latent frames, from frame "
            f"{empty[0]} on, as nodes for image-to-video models fill them; keep only the others, in whole "
            "chunks, or connect the picture to start_image"
        )


def _other_model(latents: Tensor) -> str:
    known = {
        (4, 4): "Stable Diffusion's",
        (4, 16): "those of a picture model",
        (5, 48): "Wan 2.2 5B's",
        (5, 128): "LTX's",
        (3, 64): "Stable Audio's",
    }
    return f" (these look like {what})" if (what := known.get((latents.ndim, latents.shape[1]))) else ""


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def checked_pictures(pictures: Tensor, size: tuple[int, int], say: Say) -> Tensor:
    """Return pictures ready to start a film of (width, height): [N, H, W, 3], opaque, in [0, 1], float32.

    pictures: [N, H, W, C] with 1 (grey), 3 or 4 channels (the last one transparency). say: called with a note for each
    unexpected conversion. ValueError for all else.
    """
    if pictures.ndim != 4 or pictures.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"the picture is {_shape(pictures)}; an IMAGE is (pictures, height, width, 3)"
            f"{': this looks like a MASK, use Convert Mask to Image' * (pictures.ndim == 3)}"
        )
    if not pictures.numel():
        raise ValueError(
            f"there is no picture to start from: the IMAGE is {_shape(pictures)}; check the node that creates it"
        )
    pictures = _in_range(pictures)
    if pictures.shape[-1] == 4:
        pictures = _over_background(pictures, say)
    height, width = pictures.shape[1:3]
    if (note := cropping_note("start_image", (width, height), size)) is not None:
        say(note)
    return pictures.expand(-1, -1, -1, 3)


def _in_range(pictures: Tensor) -> Tensor:
    if not pictures.is_floating_point():
        raise ValueError(
            f"the IMAGE holds {str(pictures.dtype).removeprefix('torch.')}; an IMAGE has fractions from 0 "
            "to 1: divide by 255"
        )
    pictures = pictures.float()
    if not torch.isfinite(pictures).all():
        raise ValueError(
            "the IMAGE holds NaN or infinity: check the node that creates it (a VAE in fp16 may; choose fp32 or bf16)"
        )
    least, most = pictures.min().item(), pictures.max().item()
    if least < _LEAST or most > _MOST:
        advice = "divide them by 255" if most > _MOST and least >= 0 else "(x + 1) / 2 maps -1 to 1 there"
        raise ValueError(f"the IMAGE's numbers go from {least:.3g} to {most:.3g}; allowed are 0 to 1: {advice}")
    return pictures.clamp(0, 1)


def _over_background(pictures: Tensor, say: Say) -> Tensor:
    alpha = pictures[..., 3:]
    if alpha.min().item() < 1:
        say("start_image is transparent in places: they are white here")
    return pictures[..., :3] * alpha + (1 - alpha) * torch.tensor(BACKGROUND, device=alpha.device) / 255
