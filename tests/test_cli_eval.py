"""`eval` on the command line: films in, tables and plots out, and errors reported before the work."""

import json

import numpy as np
import pytest

from longlive_core import cli
from longlive_core.config import StreamConfig
from longlive_core.film.tags import film_metadata, with_given
from longlive_core.timeline import parse
from tests.eval.making import write_film, write_truth
from tests.eval.models import save_clip, save_dino

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_truth(tmp_path_factory.mktemp("films") / "film.mp4")


def run(capsys, *arguments):
    """(exit code, stdout, last line of stderr)"""
    try:
        code = cli.main(["eval", *arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err.strip().splitlines()[-1] if err.strip() else ""


def test_a_toybox_film_from_end_to_end(film, tmp_path, capsys):
    """Forbids a command whose parts work and do not meet."""
    code, out, _ = run(capsys, film, "--toybox", "--stride", "8", "--out", str(tmp_path))
    assert code == 0 and "adherence 1.00" in out and "switch at 4.31 s (recache)" in out and "note:" not in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "film_adherence.png",
        "film_drift.png",
        "films.csv",
        "results.json",
        "segments.csv",
        "switches.csv",
    }
    settings = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["settings"]
    assert settings["judge_stride"] == 8 and settings["feature_stride"] == 8 and settings["clip"] is None


def test_models_of_the_user(film, tmp_path, capsys):
    """Forbids --clip and --dino that are not passed on."""
    clip, dino = save_clip(tmp_path / "clip"), save_dino(tmp_path / "dino")
    code, out, _ = run(
        capsys,
        film,
        "--clip",
        clip,
        "--dino",
        dino,
        "--device",
        "cpu",
        "--stride",
        "12",
        "--no-plots",
        "--out",
        str(tmp_path / "out"),
    )
    assert code == 0 and "CLIP score" in out
    result = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert result["films"][0]["features"]["subject_consistency"] is not None
    assert result["settings"]["clip"] == clip and result["settings"]["feature_stride"] == 12


def test_without_judge_and_models_it_says_so_and_films_keep_apart(film, tmp_path, capsys):
    """Forbids a missing adherence that looks like an oversight, and films of one name that overwrite each other."""
    code, out, _ = run(capsys, film, film, "--no-plots", "--out", str(tmp_path))
    assert code == 0 and "note: only drift and pixel continuity" in out
    assert "film: 165 frames" in out and "film-2: 165 frames" in out and "mean of 2 films [95 %" in out


def test_frames_that_the_model_did_not_make_are_said(tmp_path, capsys):
    """Forbids silently including the clip that a film began with in the model's scores."""
    plan = parse("0s a").plan(6)
    tags = with_given(film_metadata("0s a", plan, StreamConfig(), 0, (32, 16), "tiny"), 2)
    path = write_film(tmp_path / "given.mp4", np.zeros((plan.frames, 16, 32, 3), np.uint8), tags)
    code, out, _ = run(capsys, path, "--no-plots", "--out", str(tmp_path / "out"))
    assert code == 0 and "first 21 frames were given" in out


def test_mistakes_are_reported_before_anything_is_measured(film, tmp_path, capsys, monkeypatch):
    """Forbids minutes of work before an error in the command, and more than one line about it."""

    def never(*arguments, **named):
        raise AssertionError("no film must be decoded for this")

    monkeypatch.setattr("longlive_core.eval.film_file.Film.frames", never)
    bare = write_film(tmp_path / "bare.mp4", np.zeros((60, 16, 32, 3), np.uint8))
    short = write_truth(tmp_path / "short.mp4", frames=20)
    out = str(tmp_path / "out")
    (tmp_path / "file").write_text("")
    for arguments, words in (
        (["none.mp4", "--out", out], "there is no film 'none.mp4'"),
        ([film, bare, "--out", out], "--timeline"),
        ([film, bare, "--toybox", "--timeline", "0s A red ball rests at night", "--out", out], "32 x 16 at 16"),
        ([film, "--toybox", "--timeline", "0s A panda walks", "--out", out], "no setting of the toybox"),
        ([film, "--timeline", "panda.txt", "--out", out], "there is no file 'panda.txt'"),
        ([film, "--toybox", "--stride", "5", "--out", out], "it must be one of 1, 2, 4, 8"),
        ([film, "--clip", str(tmp_path), "--out", out], "is not a CLIP model"),
        ([film, "--dino", "x", "--device", "abc", "--out", out], "no device 'abc'"),
        ([film, "--stride", "4", "--out", out], "--stride 4 is for --toybox, --clip and --dino"),
        ([film, "--chunk", "3", "--out", out], "--chunk 3 needs --timeline"),
        ([film, short, "--out", out], "short.mp4': the film has 20 frames, too few"),
        ([film, "--out", str(tmp_path / "file")], "cannot write results into"),
        ([film], "required: --out"),
        (["--out", out], "required: FILM"),
    ):
        code, _, line = run(capsys, *arguments)
        assert code == 2 and words in line, line


def test_a_film_whose_length_is_only_counted_is_named(tmp_path, capsys, monkeypatch):
    """Forbids an error among many films that does not say which, where the container does not state its length."""
    short = write_truth(tmp_path / "short.mp4", frames=20)
    monkeypatch.setattr("longlive_core.eval.film_file._properties", lambda path: (16.0, (128, 80), 0))
    code, _, line = run(capsys, short, "--toybox", "--out", str(tmp_path / "out"))
    assert code == 2 and "short.mp4': the film has 20 frames, too few" in line
