"""Pictures that films begin with: upright, in their colours, over white; animations at their speed."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from longlive_core.film.clips import read_clip

from .filming import CORNERS, four_corners

SIZE = (64, 48)
ORIENTATIONS = {
    1: (0, 1, 2, 3),
    2: (1, 0, 3, 2),
    3: (3, 2, 1, 0),
    4: (2, 3, 0, 1),
    5: (0, 2, 1, 3),
    6: (2, 0, 3, 1),
    7: (3, 1, 2, 0),
    8: (1, 3, 0, 2),
}
LOSSLESS = {"jpg": {"quality": 100, "subsampling": 0}, "png": {}, "webp": {"lossless": True}, "tiff": {}}
WHITE = (255, 255, 255)


def read(path, notes=None):
    return read_clip(path, SIZE, 16, (notes if notes is not None else []).append)


def corners(path, notes=None):
    clip = read(path, notes)
    return [tuple((clip[0, y, x] * 255).round().int().tolist()) for y, x in ((8, 8), (8, -8), (-8, 8), (-8, -8))]


def close(found, expected, most=3):
    return np.abs(np.array(found, int) - np.array(expected, int)).max() <= most


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_picture_is_turned_as_its_exif_says(tmp_path, kind, orientation):
    """Forbids portraits of phones that are turned sideways, and mirrored ones."""
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"picture.{kind}"
    Image.fromarray(four_corners()).save(path, exif=exif, **LOSSLESS[kind])
    assert close(corners(path), [CORNERS[place] for place in ORIENTATIONS[orientation]])


@pytest.mark.parametrize("mode", ["P", "CMYK", "1", "L", "LAB", "RGBX", "YCbCr"])
def test_colours_come_back_from_every_mode(tmp_path, mode):
    """Forbids inverted or shifted colours of pictures that are no RGB."""
    picture = Image.fromarray(four_corners())
    expected = CORNERS
    if mode == "LAB":
        profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        picture = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    else:
        picture = picture.convert("L" if mode in ("1", "L") else mode)
    if mode in ("1", "L"):
        expected = [(level,) * 3 for level in (76, 150, 29, 255)]
    if mode == "1":
        picture = picture.point(lambda level: 255 * (level > 100), mode="1")
        expected = [(level,) * 3 for level in (0, 255, 0, 255)]
    path = tmp_path / ("picture.png" if mode in ("P", "1", "L") else "picture.tif")
    picture.save(path)
    assert close(corners(path), expected, 25 if mode == "LAB" else 3)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path, kind):
    """Forbids a white picture: Pillow cuts 16-bit grey off at 255."""
    levels = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(levels).save(tmp_path / f"grey.{kind}")
    found = (read(tmp_path / f"grey.{kind}")[0, 24] * 255).numpy()
    assert np.abs(found[2:-2] - levels[24, 2:-2, None] / 257).max() < 2


def test_sixteen_bits_whose_white_is_zero_and_whose_grey_is_hidden(tmp_path):
    """Forbids negatives of scans, and a colour that a PNG says is not there."""
    levels = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
    Image.fromarray(levels).save(tmp_path / "scan.tif", tiffinfo={262: 0})
    assert read(tmp_path / "scan.tif")[0, 24, 2:-2, 0].diff().max() < 0
    Image.fromarray(np.full((48, 64), 30000, np.uint16)).save(tmp_path / "hidden.png", transparency=30000)
    notes = []
    assert close(corners(tmp_path / "hidden.png", notes), [WHITE] * 4) and "transparent" in notes[0]


def test_a_picture_of_another_shape_says_what_it_loses(tmp_path):
    Image.new("RGB", (400, 48)).save(tmp_path / "wide.png")
    notes = []
    read(tmp_path / "wide.png", notes)
    assert len(notes) == 1 and "is 400 x 48" in notes[0] and "loses 84% left and right" in notes[0]


def test_a_profile_is_followed(tmp_path):
    """Forbids the pale colours of a wide profile that is read as sRGB."""
    wide = _swapped_profile()
    Image.fromarray(four_corners()).save(tmp_path / "picture.png", icc_profile=wide)
    red, green, blue, white = corners(tmp_path / "picture.png")
    assert close(red, (0, 255, 0), 40) and close(green, (255, 0, 0), 40) and close((blue, white), CORNERS[2:], 40)
    Image.fromarray(four_corners()).save(tmp_path / "damaged.png", icc_profile=b"no profile")
    assert close(corners(tmp_path / "damaged.png"), CORNERS)


def _swapped_profile() -> bytes:
    """sRGB with the red and green primaries in each other's places."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", data, 128)[0]
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
    at, length = struct.unpack_from(">II", data, tags[b"desc"] + 4)
    data[at : at + length] = data[at : at + length].replace(b"s\0R\0G\0B", b"m\0i\0n\0e")
    return bytes(data)


@pytest.mark.parametrize("kind", ["png", "webp", "gif"])
def test_transparent_places_are_white_and_that_is_said(tmp_path, kind):
    """Forbids the colour below transparent places."""
    picture = Image.fromarray(four_corners()).convert("RGBA")
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:, :32] = 0
    picture.putalpha(Image.fromarray(alpha))
    path, notes = tmp_path / f"picture.{kind}", []
    picture.save(path, **({"lossless": True} if kind == "webp" else {}))
    assert close(corners(path, notes), (WHITE, CORNERS[1], WHITE, WHITE))
    assert len(notes) == 1 and "transparent in places: they are white here" in notes[0]
    Image.fromarray(four_corners()).convert("RGBA").save(tmp_path / "opaque.png")
    assert close(corners(tmp_path / "opaque.png", notes), CORNERS) and len(notes) == 1


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_an_animation_is_a_clip(tmp_path, kind):
    """Forbids its first picture alone, and a wrong speed."""
    pictures = [Image.new("RGB", SIZE, (level,) * 3) for level in (20, 90, 160, 230)]
    path, notes = tmp_path / f"moving.{kind}", []
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[250, 500, 250, 1000],
        loop=0,
        **({"lossless": True} if kind == "webp" else {}),
    )
    found = (read(path, notes).mean(dim=(1, 2, 3)) * 255).round().int().tolist()
    assert found == [20] * 4 + [90] * 8 + [160] * 4 + [230] * 16
    assert len(notes) == 1 and "4 pictures are played once, 2 s" in notes[0]


def test_a_hidden_first_picture_of_an_animated_png_is_not_shown(tmp_path):
    pictures = [Image.new("RGB", SIZE, (level,) * 3) for level in (20, 90, 160)]
    pictures[0].save(
        tmp_path / "moving.png", save_all=True, append_images=pictures[1:], duration=125, default_image=True
    )
    assert (read(tmp_path / "moving.png").mean(dim=(1, 2, 3)) * 255).round().int().tolist() == [90] * 2 + [160] * 2


def test_an_animation_without_times_has_those_of_browsers(tmp_path):
    """Forbids a GIF that is over at once."""
    pictures = [Image.new("RGB", SIZE, (level,) * 3) for level in (20, 90, 160, 230)]
    pictures[0].save(tmp_path / "moving.gif", save_all=True, append_images=pictures[1:], duration=0)
    assert len(read(tmp_path / "moving.gif")) == round(0.4 * 16)


def test_what_cannot_be_read_as_meant_is_named(tmp_path):
    """Forbids a tile of a HEIC, a preview of a raw file, the first of several pages, and guessed levels."""
    picture = Image.fromarray(four_corners())
    heic = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(100)
    (tmp_path / "phone.heic").write_bytes(heic)
    (tmp_path / "phone.jpg").write_bytes(heic)  # under any name
    picture.save(tmp_path / "pages.tif", save_all=True, append_images=[picture])
    picture.save(tmp_path / "raw.dng.tif", tiffinfo={50706: b"\1\4\0\0"})
    Image.fromarray(np.ones((48, 64), np.float32)).save(tmp_path / "numbers.tif")
    data = io.BytesIO()
    Image.effect_noise((64, 48), 60).save(data, "JPEG")
    (tmp_path / "half.jpg").write_bytes(data.getvalue()[: len(data.getvalue()) // 2])
    for name, words in (
        ("phone.heic", "is a HEIC picture"),
        ("phone.jpg", "is a HEIC picture"),
        ("pages.tif", "has 2 pages"),
        ("raw.dng.tif", "is a camera's raw file"),
        ("numbers.tif", "holds fractions"),
        ("half.jpg", "cannot be read"),
    ):
        with pytest.raises(ValueError, match=words):
            read(tmp_path / name)


def test_a_picture_in_several_sizes_is_one_picture(tmp_path):
    """Forbids a refusal of pictures that carry a smaller one of themselves, as of cameras and editors."""
    picture = Image.fromarray(four_corners())
    small = picture.resize((16, 12))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    picture.save(tmp_path / "sizes.tif", save_all=True, append_images=[small])
    picture.save(tmp_path / "stereo.mpo", "MPO", save_all=True, append_images=[small], quality=100, subsampling=0)
    assert len(read(tmp_path / "sizes.tif")) == len(read(tmp_path / "stereo.mpo")) == 1
    assert close(corners(tmp_path / "sizes.tif"), CORNERS)
