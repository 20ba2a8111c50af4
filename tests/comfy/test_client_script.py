"""scripts/client.py against a server, as a user runs it."""

import subprocess
import sys

import pytest

from longlive_core.timeline import parse
from scripts.harness import graphs, mp4

pytestmark = pytest.mark.comfy

SCRIPT = graphs.WORKFLOWS.parent / "scripts" / "client.py"


def client(server, folder, *arguments: str):
    command = [sys.executable, str(SCRIPT), "--server", server.url, "--out", str(folder / "films"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)


def test_many_timelines_become_films(server, tmp_path):
    """Forbids a client that loses films, mixes them up or gives all of them one name."""
    timelines = {"one": "0s A red ball bounces on a meadow.", "two": graphs.TEXT}
    for name, text in timelines.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    answer = client(server, tmp_path, "--duration", "2", "one.txt", "two.txt", "A blue star spins in place at night.")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    timelines["film"] = "A blue star spins in place at night."
    for name, text in timelines.items():
        film = mp4.read((tmp_path / "films" / f"{name}.mp4").read_bytes())
        assert film.tags["comment"] == text
        assert len(film.frames) == parse(text).plan(2.0).frames
        assert f"{name}: running" in answer.stdout
        assert f"{name}: done" in answer.stdout


def test_one_bad_timeline_does_not_stop_the_others(server, tmp_path):
    """Forbids that a mistake in one of many films stops the others, or is not reported."""
    answer = client(server, tmp_path, "--duration", "1", "0s A red ball\n2s", "0s A red ball")
    assert answer.returncode == 1
    assert "film: refused" in answer.stdout
    assert "line 2" in answer.stdout
    assert [path.name for path in (tmp_path / "films").iterdir()] == ["film_2.mp4"]


def test_a_file_that_is_not_there_is_no_prompt(server, tmp_path):
    """Forbids a film of the words 'missing.txt'."""
    answer = client(server, tmp_path, "missing.txt")
    assert answer.returncode != 0
    assert "there is no file missing.txt" in answer.stderr


def test_no_server_is_reported(tmp_path, server):
    """Forbids a traceback where the address is wrong."""
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), "--server", "http://127.0.0.1:9", "0s A red ball"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert answer.returncode == 1
    assert "http://127.0.0.1:9" in answer.stderr
    assert "Traceback" not in answer.stderr
