"""`render --start`, `--extend` and `--branch-at`."""

import numpy as np
import pytest
from PIL import Image

from longlive_core.cli import main
from longlive_core.film.clips import read_clip
from longlive_core.film.read_tags import read_film
from longlive_core.film.video import FilmWriter
from longlive_core.takes import TakeStore

from .studio import frames_of

SETTINGS = ["--width", "64", "--height", "48", "--steps", "1", "--dtype", "fp32"]


def render(tmp_path, text, *more, seconds="1.3", name="film.mp4"):
    """-> exit code, frames of the film where there is one."""
    film = tmp_path / name
    code = main(
        [
            "render",
            text,
            "-o",
            str(film),
            "--duration",
            seconds,
            "--takes",
            str(tmp_path / "takes"),
            *SETTINGS,
            *map(str, more),
        ]
    )
    return code, (frames_of(film) if code == 0 else [])


def newest(tmp_path):
    return max(TakeStore(tmp_path / "takes").takes(), key=lambda take: take.used)


def test_a_picture_starts_a_film(tmp_path):
    """Forbids a film that begins with something else, and one that claims to be rendered from its timeline alone."""
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, :100] = (200, 30, 30)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    code, frames = render(tmp_path, "A red ball", "--start", tmp_path / "picture.png", seconds="2")
    assert code == 0 and len(frames) == 33
    left, right = frames[8][:, :24].mean(axis=(0, 1)), frames[8][:, 40:].mean(axis=(0, 1))
    assert left[0] > right[0] + 60 and right.max() < 90
    assert read_film(tmp_path / "film.mp4").given == 1 == newest(tmp_path).given
    assert main(["render", str(tmp_path / "film.mp4"), "-o", str(tmp_path / "again.mp4")]) == 2


def test_what_a_picture_is_not_taken_for_is_reported(tmp_path, capsys):
    """Forbids a white sky that was not requested and is not reported."""
    Image.new("RGBA", (64, 48), (200, 30, 30, 0)).save(tmp_path / "picture.png")
    code, frames = render(tmp_path, "A red ball", "--start", tmp_path / "picture.png")
    assert code == 0 and frames[0].mean() > 200
    assert "note: " in (said := capsys.readouterr().err) and "they are white here" in said


def test_a_beginning_as_long_as_the_film_is_refused_before_it_is_encoded(tmp_path, capsys, monkeypatch):
    """Forbids minutes of loading and encoding for a film with nothing to render."""
    monkeypatch.setattr("longlive_core.run.pipeline.Pipeline.load", None)
    with FilmWriter(tmp_path / "clip.mp4", 64, 48) as film:
        film.write(np.zeros((33, 48, 64, 3), np.uint8))
    assert render(tmp_path, "A red ball", "--start", tmp_path / "clip.mp4", seconds="2")[0] == 2
    assert "the film has 3 start chunks and 3 in all" in capsys.readouterr().err


@pytest.mark.slow
def test_a_film_continues_after_a_take(tmp_path):
    """Forbids a seam where the prompt stays, a branch at another place, and rendering the beginning again."""
    _, first = render(tmp_path, "A red ball", seconds="2.0")
    take = newest(tmp_path).id
    code, longer = render(tmp_path, "A red ball", "--extend", take, name="longer.mp4")
    assert code == 0 and len(longer) == 33 + 24
    assert all(np.array_equal(a, b) for a, b in zip(longer, first, strict=False))
    _, whole = render(tmp_path, "A red ball", "--takes", tmp_path / "other", seconds="3.4", name="whole.mp4")
    assert all(np.array_equal(a, b) for a, b in zip(longer, whole, strict=True))
    assert read_film(tmp_path / "longer.mp4").given == 0
    code, branch = render(tmp_path, "A blue ball {cut}", "--extend", take, "--branch-at", 1, name="branch.mp4")
    assert code == 0 and len(branch) == 9 + 21
    assert newest(tmp_path).timeline == "0c A red ball\n1c A blue ball {cut}"
    code = main(
        [
            "render",
            "A star {cut}",
            "-o",
            str(tmp_path / "same.mp4"),
            "--duration",
            "0.5",
            "--takes",
            str(tmp_path / "takes"),
            "--extend",
            take,
            "--steps",
            "1",
            "--dtype",
            "fp32",
        ]
    )
    assert code == 0 and frames_of(tmp_path / "same.mp4")[0].shape[:2] == (48, 64), "the take's size"


WRONG = {
    "both": (["--start", "a.png", "--extend", "0" * 12], "one thing"),
    "nothing to branch": (["--branch-at", "3"], "--extend ID"),
    "no such take": (["--extend", "0" * 12], "there is no take"),
    "no such file": (["--start", "nowhere.png"], "there is no file 'nowhere.png'"),
    "dry run": (["--start", __file__, "--dry-run"], "--dry-run writes nothing"),
    "no picture": (["--start", __file__], "neither a picture nor a video"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_what_cannot_begin_a_film_is_reported(tmp_path, capsys, arguments, words):
    """Forbids a traceback, and a film without the beginning that was requested."""
    assert render(tmp_path, "A red ball", *arguments)[0] == 2
    assert words in capsys.readouterr().err


def test_a_beginning_needs_takes(tmp_path, capsys):
    """Forbids ignoring --start where there is no store."""
    assert main(["render", "A red ball", "-o", str(tmp_path / "a.mp4"), "--start", __file__]) == 2
    assert "--takes FOLDER" in capsys.readouterr().err


def test_clips_keep_their_speed_and_their_middle(tmp_path):
    """Forbids slow motion from a clip of another frame rate, and squeezed pictures."""
    frames = np.zeros((30, 48, 128, 3), np.uint8)
    frames[:, :, 32:96] = (np.arange(30) * 8)[:, None, None, None]
    with FilmWriter(tmp_path / "clip.mp4", 128, 48, fps=30) as film:
        film.write(frames)
    clip = read_clip(tmp_path / "clip.mp4", (64, 48), 16)
    assert clip.shape == (16, 48, 64, 3)
    levels = clip[:, 10:-10, 8:-8].mean(dim=(1, 2, 3)) * 255 / 8
    assert np.abs(levels.numpy() - np.arange(16) * 30 / 16).max() < 1.6
