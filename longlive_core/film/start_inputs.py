"""What a host hands over for a film to begin with, looked at before anything is computed: pictures and latents.

Shapes: B films, C channels, T latent frames, h, w latent size; N pictures of H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..words.wording import count
from .pictures import BACKGROUND, Say, cropping_note

PIXELS = 8  # of a latent in height and width
_MOST, _LEAST = 1.5, -0.5  # what sharpening and scaling make of 1 and 0


def check_given(given: int, chunks: int) -> None:
    """Raise ValueError where a film of `chunks` chunks has nothing left to render after so many that are given."""
    if given >= chunks:
        raise ValueError(
            f"the film begins with {count(given, 'chunk')} given and has {chunks} in all, so there is "
            "nothing to render; make it longer, or begin with less"
        )


def check_latents(latents: Tensor, channels: int, size: tuple[int, int], chunk: int) -> None:
    """Raise ValueError unless latents, as they were given, can be the first chunks of a film of (width, height)."""
    if latents.ndim != 5 or latents.shape[1] != channels:
        raise ValueError(
            f"the latent is {_shape(latents)}; Wan 2.1's are (1, {channels}, frames, height, width)"
            f"{_other_model(latents)}: encode a clip with Wan 2.1's VAE, or connect it to start_image"
        )
    batch, _, frames, height, width = latents.shape
    if batch != 1:
        raise ValueError(
            f"the latent holds {batch} clips, and a film begins with one: take one of them (Latent From "
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
            f"the latent has {frames} latent frames; a film begins with whole chunks, a multiple of "
            f"{chunk}: {kept}, or connect the picture or clip to start_image"
        )
    if not torch.isfinite(latents.float()).all():
        raise ValueError(
            "the latent holds NaN or infinity: look at what made it (a VAE in fp16 may; choose fp32 or bf16)"
        )
    _check_not_empty(latents[0])


def empty_frames(latents: Tensor) -> list[int]:
    """Of latents [C, T, h, w] the frames that no picture gives: every channel the same all over."""
    flat = latents.flatten(2)
    return (flat.amax(-1) == flat.amin(-1)).all(dim=0).nonzero().flatten().tolist()


def _check_not_empty(latents: Tensor) -> None:
    empty = empty_frames(latents)
    if len(empty) == latents.shape[1]:
        raise ValueError(
            "the latent is empty: all its numbers are the same, as an Empty Latent node makes them, which "
            "is no picture to begin with; leave start_latent unconnected for a film that begins by "
            "itself, or connect a clip that a VAE encoded"
        )
    if empty:
        raise ValueError(
            f"the latent is empty in {len(empty)} of its {latents.shape[1]} latent frames, from frame "
            f"{empty[0]} on, as nodes for image-to-video models fill them; keep the others, whole chunks "
            "of them, or connect the picture to start_image"
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
    """Pictures as a film of (width, height) begins with them: [N, H, W, 3], opaque, in [0, 1], float32.

    pictures: [N, H, W, C] with 1 (grey), 3 or 4 channels (the last one transparency). say: is told what is done to
    them that would not be expected. ValueError for all else.
    """
    if pictures.ndim != 4 or pictures.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"the picture is {_shape(pictures)}; an IMAGE is (pictures, height, width, 3)"
            f"{': this looks like a MASK, use Convert Mask to Image' * (pictures.ndim == 3)}"
        )
    if not pictures.numel():
        raise ValueError(
            f"there is no picture to begin with: the IMAGE is {_shape(pictures)}; look at the node that makes it"
        )
    pictures = _in_range(pictures)
    if pictures.shape[-1] == 4:
        pictures = _over_background(pictures, say)
    height, width = pictures.shape[1:3]
    if (told := cropping_note("start_image", (width, height), size)) is not None:
        say(told)
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
            "the IMAGE holds NaN or infinity: look at the node that makes it (a VAE in fp16 may; choose fp32 or bf16)"
        )
    least, most = pictures.min().item(), pictures.max().item()
    if least < _LEAST or most > _MOST:
        advice = "divide them by 255" if most > _MOST and least >= 0 else "(x + 1) / 2 brings -1 to 1 there"
        raise ValueError(f"the IMAGE's numbers go from {least:.3g} to {most:.3g}; allowed are 0 to 1: {advice}")
    return pictures.clamp(0, 1)


def _over_background(pictures: Tensor, say: Say) -> Tensor:
    alpha = pictures[..., 3:]
    if alpha.min().item() < 1:
        say("start_image is transparent in places: they are white here")
    return pictures[..., :3] * alpha + (1 - alpha) * torch.tensor(BACKGROUND, device=alpha.device) / 255
