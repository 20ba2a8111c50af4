"""What size a film has: by the model, by a preset, by width and height."""

import pytest

from longlive_core.config import PRESETS
from longlive_core.run.pipeline import default_size
from longlive_core.sizes import CHOICES, SIZES, check_size, film_size, trained_size
from longlive_core.toybox import HEIGHT, WIDTH


def test_every_model_has_every_size():
    """Forbids a preset that one model lacks, sizes that the VAE cannot make, a draft that is no smaller."""
    assert set(SIZES) == set(PRESETS)
    for sizes in SIZES.values():
        assert ("auto", *sizes) == CHOICES
        for size in sizes.values():
            check_size(*size)
        (width, height), portrait, draft = sizes.values()
        assert width > height and portrait[0] < portrait[1] and draft[0] * draft[1] < width * height


def test_auto_is_what_the_model_was_made_for():
    """Forbids a second opinion on what the pocket model was trained at."""
    assert trained_size("pocket") == default_size("pocket") == (WIDTH, HEIGHT) == film_size("auto", 0, 0, "pocket")
    assert default_size("longlive_base.pt") == film_size("auto", 0, 0, "longlive-1.3b") == (832, 480)
    assert film_size("auto", 0, 0, "pocket", own=(64, 48)) == (64, 48), "what the film goes on from"


def test_presets_and_numbers():
    """Forbids presets of another model, and numbers that are changed."""
    assert film_size("portrait", 0, 0, "longlive-1.3b", own=(64, 48)) == (480, 832)
    assert film_size("landscape", 0, 0, "pocket") == (128, 80)
    assert film_size("auto", 640, 368, "pocket", own=(64, 48)) == (640, 368)


@pytest.mark.parametrize(
    "asked, words",
    [
        (("auto", 640, 0), "width 640 without a height: give both, or neither (0)"),
        (("auto", 0, 480), "height 480 without a width"),
        (("draft", 640, 480), "size draft and width 640 and height 480 are two sizes: choose size auto"),
        (("portrait", 0, 480), "size portrait and height 480 are two sizes"),
        (("auto", 100, 80), "the size is 100 x 80 pixels; width and height must be multiples of 16, such as 96 x 80"),
        (("auto", -16, 80), "the size is -16 x 80 pixels"),
        (("huge", 0, 0), "size 'huge': allowed are auto, landscape, portrait, draft"),
    ],
)
def test_two_sizes_or_half_of_one_are_refused(asked, words):
    """Forbids that one of two wishes is ignored, and a width that is combined with another source's height."""
    with pytest.raises(ValueError) as refused:
        film_size(*asked, "pocket")
    assert str(refused.value).startswith(words)
