"""Picture files as viewers show them: upright, in sRGB, transparent places on white.

A file is one picture, or an animation (GIF, WebP, PNG, AVIF) with the time at which each picture appears.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps, ImageSequence, UnidentifiedImageError

Say = Callable[[str], None]

_CROPPED = 1 / 3  # part of a picture whose loss by cropping is reported
BACKGROUND = (255, 255, 255)  # shows through transparent places, as on web pages
# Formats that are recognised by their content. Excluded are formats that Pillow guesses (TGA), executes (EPS) or shows
# as a small preview (camera raw files, which it treats as TIFF).
FORMATS = (
    "JPEG",
    "MPO",
    "PNG",
    "WEBP",
    "AVIF",
    "TIFF",
    "GIF",
    "BMP",
    "JPEG2000",
    "PPM",
    "QOI",
    "ICO",
    "PSD",
    "PCX",
    "SGI",
    "DDS",
)
ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}
_SHORTEST, _INSTEAD = 0.011, 0.1  # seconds: browsers show pictures with a shorter duration for this long
# Brands of ISO picture files (ftyp).
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_DNG_VERSION, _SUBFILE, _PHOTOMETRIC = 50706, 254, 262  # tags of TIFF
_WHITE_IS_ZERO = 0  # of _PHOTOMETRIC
_MOST_16 = 65535


class Picture(NamedTuple):
    """A picture of a file: RGB, upright, square pixels; seconds after the first picture; duration if known."""

    image: Image.Image
    time: float = 0.0
    lasts: float | None = None


def read_pictures(path: str | os.PathLike, say: Say = lambda message: None) -> Iterator[Picture] | None:
    """Yield the picture or the animation at `path`; return None if it is not a picture file (it may be a video).

    say: called with a note for anything that a viewer of the file would not expect. ValueError for a picture that
    cannot be read correctly.
    """
    _refuse_unreadable(path)
    Image.init()
    try:
        image = Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    if image.format == "TIFF":
        _check_tiff(path, image)
    return _shown(path, image, say)


def _shown(path, image: Image.Image, say: Say) -> Iterator[Picture]:
    number, time, transparent = 0, 0.0, False
    try:
        with image:
            animated = image.format in ANIMATED and getattr(image, "n_frames", 1) > 1
            for picture in ImageSequence.Iterator(image) if animated else (image,):
                number += 1
                if animated and number == 1 and getattr(image, "default_image", False):
                    continue  # the fallback for programs without animated PNG
                shown, see_through = upright_rgb(picture, path)
                transparent |= see_through
                lasts = _lasts(picture) if animated else None
                yield Picture(shown, time, lasts)
                time += lasts or 0
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise _unreadable(path, error, number) from error
    if transparent:
        say(f"'{path}' is transparent in places: they are white here")
    if animated:
        say(f"'{path}' is an animation: its {number} pictures are played once, {time:g} s")


def cropping_note(name: str, own: tuple[int, int], size: tuple[int, int]) -> str | None:
    """Return a note if cropping a picture of (width, height) to a film's shape loses much of it; else None."""
    shape, wanted = own[0] / own[1], size[0] / size[1]
    lost = 1 - min(shape, wanted) / max(shape, wanted)
    if lost <= _CROPPED:
        return None
    return (
        f"{name} is {own[0]} x {own[1]}: cropped to the film's shape, {size[0]} x {size[1]}, it loses {lost:.0%} "
        f"{'left and right' if shape > wanted else 'above and below'}"
    )


def _lasts(picture: Image.Image) -> float:
    seconds = picture.info.get("duration", 0) / 1000
    return seconds if seconds >= _SHORTEST else _INSTEAD


def upright_rgb(picture: Image.Image, path) -> tuple[Image.Image, bool]:
    """Return a picture turned as its EXIF specifies, in sRGB, and whether it has transparent places."""
    turned = ImageOps.exif_transpose(picture)
    profile = picture.info.get("icc_profile")
    turned = _eight_bits(turned, picture, path)
    if turned.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in turned.info:
        turned = turned.convert("RGBA")
        alpha = turned.getchannel("A")
        colours = _srgb(turned.convert("RGB"), profile)
        if alpha.getextrema()[0] == 255:
            return colours, False
        page = Image.new("RGB", turned.size, BACKGROUND)
        page.paste(colours, mask=alpha)
        return page, True
    return _srgb(turned, profile), False


def _eight_bits(picture: Image.Image, stored: Image.Image, path) -> Image.Image:
    """Convert modes of more than 8 bits per channel, which Pillow clips at 255 instead of scaling.

    stored: the picture as in the file, not turned yet.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and stored.format == "PNG"):
        levels = np.asarray(picture).astype(np.float64) / _MOST_16 * 255
        if getattr(stored, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            levels = 255 - levels
        grey = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
        hidden = picture.info.get("transparency")
        if isinstance(hidden, int):
            grey.putalpha(Image.fromarray(np.where(np.asarray(picture) == hidden, 0, 255).astype(np.uint8)))
        return grey
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"'{path}' holds {'fractions' if picture.mode == 'F' else 'numbers of 32 bits'}, whose "
            "black and white levels are unknown; save it with 8 or 16 bits per channel"
        )
    return picture


def _srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert a picture's colours from its profile to sRGB, if it has a fitting one."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if picture.mode not in ("RGB", "CMYK", "L", "LAB"):
                picture = picture.convert("RGB")
            if "sRGB" not in ImageCms.getProfileDescription(source):
                picture = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):  # damaged, or for another kind of picture
            pass
    if picture.mode == "LAB":
        return ImageCms.profileToProfile(
            picture, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    return picture.convert("RGB")


def _refuse_unreadable(path) -> None:
    """Raise ValueError for files whose pictures Pillow or FFmpeg would read wrongly."""
    with open(path, "rb") as file:
        head = file.read(64)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), 64), 4))}
    if head[4:8] == b"ftyp" and (head[8:12] in _HEIC or (head[8:12] not in _AVIF and brands & {b"heic", b"heix"})):
        raise ValueError(
            f"'{path}' is a HEIC picture, as from Apple phones, which cannot be read here; save it as JPEG or PNG"
        )
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF and not _knows("AVIF"):
        raise ValueError(
            f"'{path}' is an AVIF picture, which this version of Pillow cannot read; save it as JPEG or "
            "PNG, or update Pillow to 11.3 or newer"
        )
    if head[8:10] == b"CR" and head[:4] in (b"II*\0", b"MM\0*"):
        raise _raw(path)


def _knows(name: str) -> bool:
    Image.init()
    return name in Image.OPEN


def _check_tiff(path, image: Image.Image) -> None:
    tags = image.tag_v2
    if _DNG_VERSION in tags or tags.get(_SUBFILE, 0) & 1:
        raise _raw(path)
    if getattr(image, "n_frames", 1) > 1:
        pages = 0
        for page in ImageSequence.Iterator(image):
            pages += not page.tag_v2.get(_SUBFILE, 0) & 1  # the others are smaller versions of the same page
        image.seek(0)
        if pages > 1:
            raise ValueError(
                f"'{path}' has {pages} pages; save the page that the film starts from as a separate "
                "picture, or all of them as a video"
            )


def _raw(path) -> ValueError:
    return ValueError(
        f"'{path}' is a camera's raw file, of which only a small preview could be read here; develop it, "
        "and save it as JPEG or PNG"
    )


def _unreadable(path, error: Exception, number: int = 0) -> ValueError:
    where = f"picture {number} of it" if number > 1 else "it"
    return ValueError(
        f"'{path}' is a picture, but {where} cannot be read ({error or type(error).__name__}); open it "
        "in another program, and save it as PNG"
    )
