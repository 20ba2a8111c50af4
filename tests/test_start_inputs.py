"""What hosts hand over for a film to begin with: read, or refused with the value, what is allowed and what to do."""

import pytest
import torch

from longlive_core.film.start_inputs import check_given, check_latents, checked_pictures

SIZE = (64, 48)
GENERATOR = torch.Generator().manual_seed(0)


def latents(batch=1, channels=16, frames=3, height=6, width=8):
    return torch.randn(batch, channels, frames, height, width, generator=GENERATOR)


def changed(tensor, place, value):
    tensor[place] = value
    return tensor


FRAME = (0, slice(None), 1)
REFUSED = {
    "all zero": (torch.zeros(1, 16, 3, 6, 8), "is empty: all its numbers are the same.*leave start_latent unconnected"),
    "constant": (torch.full((1, 16, 3, 6, 8), 0.7), "is empty"),
    "constant in each channel": (torch.arange(16.0).view(1, 16, 1, 1, 1).expand(1, 16, 3, 6, 8), "is empty"),
    "empty behind the first": (changed(latents(), FRAME, 0.0), "empty in 1 of its 3 latent frames, from frame 1 on"),
    "batch": (latents(2), "holds 2 clips.*Latent From Batch"),
    "no batch": (latents(0), "holds 0 clips"),
    "a picture model's": (latents()[:, :, 0], r"is \(1, 16, 6, 8\); .*those of a picture model"),
    "Stable Diffusion's": (torch.zeros(1, 4, 6, 8), "Stable Diffusion's"),
    "Wan 2.2's": (latents(channels=48), "Wan 2.2 5B's"),
    "another size": (latents(height=8), "of 64 x 64 pixels, the film has 64 x 48.*start_image, which is scaled"),
    "a picture": (latents(frames=1), "has 1 latent frames; .*a multiple of 3: encode a clip of 9 pictures or more"),
    "part of a chunk": (latents(frames=5), "has 5 latent frames.*keep 3 or encode a clip of 21 pictures"),
    "no frame": (latents(frames=0), "has 0 latent frames"),
    "NaN": (changed(latents(), (0, 3, 1, 2, 2), float("nan")), "holds NaN or infinity"),
    "infinity": (changed(latents(), (0, 3, 1, 2, 2), float("-inf")), "holds NaN or infinity"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_latents_that_cannot_begin_a_film_are_refused(given, words):
    """Forbids coloured stripes that grow into the film, and a traceback minutes later."""
    with pytest.raises(ValueError, match=words):
        check_latents(given, 16, SIZE, 3)


def test_latents_that_can_are_taken():
    """Forbids refusing half precision, several chunks, frame-wise models, and a frame that repeats the one before."""
    check_latents(latents(frames=6), 16, SIZE, 3)
    check_latents(latents().bfloat16(), 16, SIZE, 3)
    check_latents(latents(frames=1), 16, SIZE, 1)
    check_latents(latents(frames=1).expand(-1, -1, 3, -1, -1), 16, SIZE, 3)


def test_a_film_that_is_all_given_is_refused():
    check_given(2, 3)
    with pytest.raises(ValueError, match="the film has 3 start chunks and 3 in all.*make it longer"):
        check_given(3, 3)


def picture(*values, height=48, width=64, count=1):
    return torch.tensor(values).expand(count, height, width, -1)


NO_PICTURES = {
    "a mask": (torch.rand(1, 48, 64), r"is \(1, 48, 64\); .*looks like a MASK"),
    "two channels": (picture(0.1, 0.2), r"is \(1, 48, 64, 2\)"),
    "none": (torch.zeros(0, 48, 64, 3), "there is no picture"),
    "no pixels": (torch.zeros(1, 0, 64, 3), "there is no picture"),
    "NaN": (picture(0.1, float("nan"), 0.2), "holds NaN or infinity"),
    "levels": (picture(0.0, 128.0, 255.0), "go from 0 to 255; allowed are 0 to 1: divide"),
    "bytes": (picture(0, 128, 255).byte(), "holds uint8; .*divide by 255"),
    "signed": (picture(-1.0, 0.0, 1.0), r"go from -1 to 1; .*\(x \+ 1\) / 2"),
}


@pytest.mark.parametrize(("given", "words"), NO_PICTURES.values(), ids=NO_PICTURES)
def test_what_is_no_picture_is_refused(given, words):
    """Forbids a white film from levels of 255, a black one from NaN, and errors of the VAE about shapes."""
    with pytest.raises(ValueError, match=words):
        checked_pictures(given, SIZE, pytest.fail)


def test_pictures_are_taken():
    """Forbids refusing a black picture, a grey one, half precision, a clip, and white after sharpening."""
    assert not checked_pictures(picture(0.0, 0.0, 0.0), SIZE, pytest.fail).any()
    assert checked_pictures(picture(0.3), SIZE, pytest.fail).shape == (1, 48, 64, 3)
    assert checked_pictures(picture(0.1, 0.2, 0.3, count=5).half(), SIZE, pytest.fail).dtype is torch.float32
    assert checked_pictures(picture(-0.04, 0.5, 1.06), SIZE, pytest.fail).max() == 1


def test_transparent_places_are_white_and_that_is_said():
    """Forbids the hidden colours that appear when the fourth channel is cut off."""
    notes = []
    half = checked_pictures(picture(1.0, 0.0, 0.0, 0.5), SIZE, notes.append)
    assert half[0, 0, 0].tolist() == [1.0, 0.5, 0.5] and notes == [
        "start_image is transparent in places: they are white here"
    ]
    assert checked_pictures(picture(1.0, 0.0, 0.0, 1.0), SIZE, pytest.fail)[0, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_a_picture_of_another_shape_says_what_it_loses():
    """Forbids a head that is cropped away silently."""
    notes = []
    checked_pictures(picture(0.1, 0.2, 0.3, height=128), SIZE, notes.append)
    assert notes == ["start_image is 64 x 128: cropped to the film's shape, 64 x 48, it loses 62% above and below"]
