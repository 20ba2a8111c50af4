"""`check --film`: the files in its folder, and its report after success and after failure."""

import hashlib
from pathlib import Path

import pytest
import torch

from longlive_core.checkpoints.built_in import DIT_FILE, weights_folder
from longlive_core.cli import main
from longlive_core.run import check_film

pytestmark = pytest.mark.slow


@pytest.fixture
def short(monkeypatch):
    """Four chunks in two shots, in the place of the 15 seconds."""
    monkeypatch.setattr(check_film, "SECONDS", 2.0)
    monkeypatch.setattr(check_film, "POCKET_STORY", "0s A red ball bounces.\n1.5s A blue star spins. {cut}")


def test_it_leaves_film_pictures_and_a_report(short, tmp_path, capsys):
    """Forbids a report without what a maintainer needs: hashes, device, times, memory, the output of check."""
    folder = tmp_path / "out"
    assert main(["check", "--film", str(folder), "--device", "cpu", "--dtype", "fp32"]) == 0
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in folder.iterdir()) == ["film.mp4", "report.md", "sheet.png"]
    assert (folder / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert hashlib.sha256((weights_folder() / DIT_FILE).read_bytes()).hexdigest() in text
    assert hashlib.sha256((folder / "film.mp4").read_bytes()).hexdigest() in text
    for wanted in (
        "The film was rendered.",
        torch.__version__,
        "float32",
        "128 x 80, 42 frames, 4 chunks, seed 0",
        "4 rendered: the first",
        "memory, estimated",
        "memory, at most",
        "resident",
        "frames/s",
        "all in order",
    ):
        assert wanted in text, wanted
    assert str(folder / "report.md") in capsys.readouterr().out


def test_a_film_that_fails_still_gives_a_report(short, tmp_path, monkeypatch, capsys):
    """Forbids that the reports that are needed most are the ones that are never written."""

    def fail(run):
        run.observer.planned(run)
        run.observer.chunk(0, None)
        raise ValueError("chunk 1: the model's output holds NaN")

    monkeypatch.setattr(check_film, "render_film", fail)
    assert main(["check", "--film", str(tmp_path), "--device", "cpu"]) == 2
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**ValueError: chunk 1: the model's output holds NaN**" in text
    assert "1 rendered: the first" in text and "memory, at most" in text
    assert "holds NaN" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_a_fault_is_reported_and_no_film_rendered(tmp_path, monkeypatch):
    """Forbids rendering with files that check refused, and an older run's film beside the report."""
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((weights_folder() / DIT_FILE).read_bytes()[:5000])
    monkeypatch.setattr(check_film, "require_files", lambda *given: None)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(b"of last week")
    assert main(["check", "--film", str(folder), "--model", str(broken)]) == 1
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "check found a fault" in text and "WRONG" in text and "broken.safetensors | 5000 |" in text
    assert not (folder / "film.mp4").exists()


def test_missing_files_are_reported_before_anything_is_read(tmp_path, capsys):
    """Forbids minutes of checking before the user hears that a film needs more files."""
    assert main(["check", "--film", str(tmp_path / "out"), "--model", str(tmp_path / "longlive_base.pt")]) == 2
    told = capsys.readouterr()
    assert "--text-encoder" in told.err and "--vae" in told.err and not told.out
    assert not (tmp_path / "out").exists()


def test_the_home_folder_is_left_out(monkeypatch):
    """Forbids that a user's name ends up in a public issue."""
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ann"))
    found = check_film.report(check_film.Findings(checked=["model /home/ann/models/a.pt (5 GB)"]))
    assert "~/models/a.pt" in found and "ann" not in found
