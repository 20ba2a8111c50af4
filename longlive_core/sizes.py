"""The size of a film: the one that the model was trained at, a named size, or a width and a height."""

from __future__ import annotations

AUTO = "auto"
MULTIPLE = 16  # pixels: 8 of the VAE times 2 of the model's patches

# (width, height) in pixels by the names of `config.PRESETS`. The first of each is the size trained at. The
# others of the pocket model were chosen by eye: its balls stay round at 112 x 128 and 112 x 80; they become bars at
# 80 x 128, and lose their outline at 96 x 64.
SIZES: dict[str, dict[str, tuple[int, int]]] = {
    "longlive-1.3b": {"landscape": (832, 480), "portrait": (480, 832), "draft": (624, 352)},
    "self-forcing": {"landscape": (832, 480), "portrait": (480, 832), "draft": (624, 352)},
    "pocket": {"landscape": (128, 80), "portrait": (112, 128), "draft": (112, 80)},
}
CHOICES = (AUTO, *SIZES["longlive-1.3b"])


def trained_size(preset: str) -> tuple[int, int]:
    """Return the (width, height) that a model was trained at."""
    return next(iter(SIZES[preset].values()))


def check_size(width: int, height: int, multiple: int = MULTIPLE) -> None:
    """Raise ValueError unless both are multiples of 16 pixels: 8 of the VAE times 2 of the model's patches."""
    if width < multiple or height < multiple or width % multiple or height % multiple:
        near = [max(multiple, round(value / multiple) * multiple) for value in (width, height)]
        raise ValueError(
            f"the size is {width} x {height} pixels; width and height must be multiples of {multiple}, such as "
            f"{near[0]} x {near[1]}"
        )


def check_choice(size: str, width: int, height: int) -> None:
    """Raise ValueError unless a size is given in one way only. width, height: in pixels; both 0: `size` decides."""
    if size not in CHOICES:
        raise ValueError(f"size {size!r}: allowed are {', '.join(CHOICES)}")
    if not (width or height):
        return
    said = " and ".join(f"{name} {value}" for name, value in (("width", width), ("height", height)) if value)
    if size != AUTO:
        raise ValueError(
            f"size {size} and {said} are two sizes: choose size {AUTO} to give width and height yourself, "
            f"or leave both at 0 for {size}"
        )
    if not (width and height):
        raise ValueError(f"{said} without a {'height' if width else 'width'}: give both, or neither (0)")
    check_size(width, height)


def film_size(size: str, width: int, height: int, preset: str, own: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the (width, height) of a film in pixels.

    Args:
        size: one of CHOICES. width, height: in pixels; both 0: `size` decides. Other values need size auto.
        preset: the model's, a key of SIZES.
        own: the meaning of auto, such as the size of a take that is extended; None: the size trained at.

    Raises ValueError for two sizes, for an incomplete one, and for a size that the VAE cannot decode.
    """
    check_choice(size, width, height)
    if width:
        return width, height
    chosen = SIZES[preset][size] if size != AUTO else own or trained_size(preset)
    check_size(*chosen)
    return chosen
