"""Speeds remembered from run to run: what is recorded, under which key, and that a bad file does no harm."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.model import CausalWan, WanModel
from longlive_core.quant import quantise_module
from longlive_core.run import speed
from longlive_core.run.speed import SpeedBook, SpeedKey, SpeedRecorder, cache_folder, speed_key
from tests.conftest import TINY

KEY = SpeedKey("a CPU, 2 threads", "width 48, 2 layers", "float32", 48, 32, 4, 12, 3, 3, "absolute")


def test_a_measurement_comes_back_under_its_key_only(tmp_path):
    """Forbids one number for all settings, and an older measurement before a newer one."""
    book = SpeedBook(tmp_path)
    assert book.recall(KEY) is None and book.video_rate(KEY) is None
    book.note(KEY, 2.0, 100.0)
    book.note(replace(KEY, steps=2), 1.0, 100.0)
    book.note(KEY, 3.0, 200.0)
    again = SpeedBook(tmp_path)
    assert (again.recall(KEY).seconds, again.recall(KEY).video_bytes) == (3.0, 200.0)
    assert again.recall(replace(KEY, steps=2)).seconds == 1.0
    for change in ({"device": "another"}, {"dtype": "bfloat16"}, {"width": 64}, {"window": 9}, {"chunk": 1}):
        assert again.recall(replace(KEY, **change)) is None
    assert os.listdir(tmp_path) == ["speeds.json"]


def test_video_of_another_size_counts_by_the_pixel(tmp_path):
    """Forbids guessing video where the same model's was measured, and taking bytes of one size for those of another."""
    book, pixels = SpeedBook(tmp_path), 48 * 32 * 12
    book.note(KEY, 2.0, 0.5 * pixels)
    assert book.video_rate(replace(KEY, width=96, height=64)) == pytest.approx(0.5)
    assert book.video_rate(replace(KEY, model="width 1536, 30 layers")) is None
    book.note(replace(KEY, width=96), 2.0, 0.7 * 2 * pixels)
    assert book.video_rate(KEY) == pytest.approx(0.5) and book.video_rate(replace(KEY, width=96)) == pytest.approx(0.7)


def entry(**changes):
    return json.dumps(
        {
            "format": 1,
            "speeds": [
                {
                    "key": {**vars(KEY), **changes.pop("key", {})},
                    "seconds": 1.0,
                    "video_bytes": 9.0,
                    "date": "2025-01-31",
                    **changes,
                }
            ],
        }
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        '{"format": 2, "speeds": []}',
        '{"format": 1, "speeds": [7]}',
        "\xff",
        "[" * 100_000,
        entry(seconds=-1),
        entry(seconds="fast"),
        entry(seconds=10**400),
        entry(video_bytes=True),
        entry(key={"width": "48"}),
        entry(key={"new": 1}),
        entry(key={"width": 0}),
        entry().replace("1.0", "NaN"),
        entry().replace('"date"', '"day"'),
    ],
)
def test_a_damaged_file_is_nothing_measured(tmp_path, caplog, content):
    """Forbids a render that fails for a convenience, a warning at every look, and a file that stays damaged."""
    (tmp_path / "speeds.json").write_text(content, encoding="latin-1")
    book = SpeedBook(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert book.recall(KEY) is None and book.video_rate(KEY) is None
        book.note(KEY, 2.0, 100.0)
    assert len(caplog.records) == 1 and "damaged" in caplog.text
    assert SpeedBook(tmp_path).recall(KEY).seconds == 2.0


def test_the_damaged_entries_are_damaged_in_one_thing_only(tmp_path):
    """Forbids the test above to pass because no entry is ever read."""
    (tmp_path / "speeds.json").write_text(entry())
    assert SpeedBook(tmp_path).recall(KEY).seconds == 1.0


def test_a_folder_that_takes_no_file_is_reported_once(tmp_path, caplog, monkeypatch):
    """Forbids an error, or a pile of warnings, at the end of a film; the old file stays whole."""
    book = SpeedBook(tmp_path)
    book.note(KEY, 2.0, 100.0)

    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "replace", refuse)
        book.note(KEY, 3.0, 100.0)
        book.note(KEY, 4.0, 100.0)
    assert len(caplog.records) == 1 and "Permission denied" in caplog.text
    assert book.recall(KEY).seconds == 2.0 and os.listdir(tmp_path) == ["speeds.json"]
    (tmp_path / "file").write_text("")
    SpeedBook(tmp_path / "file" / "below").note(KEY, 1.0, 1.0)
    (tmp_path / "speeds.json").unlink()
    (tmp_path / "speeds.json").mkdir()
    assert SpeedBook(tmp_path).recall(KEY) is None


def test_the_folder_is_the_systems_cache(monkeypatch, tmp_path):
    """Forbids files in places where no program keeps its cache, and a crash where there is no home."""
    monkeypatch.setenv("LONGLIVE_CACHE", str(tmp_path))
    assert SpeedBook().path == tmp_path / "speeds.json"
    monkeypatch.delenv("LONGLIVE_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for system, variable, value, expected in (
        ("linux", "XDG_CACHE_HOME", str(tmp_path / "x"), tmp_path / "x"),
        ("linux", "XDG_CACHE_HOME", "relative", tmp_path / ".cache"),
        ("darwin", "XDG_CACHE_HOME", str(tmp_path / "x"), tmp_path / "Library" / "Caches"),
        ("win32", "LOCALAPPDATA", str(tmp_path / "local"), tmp_path / "local"),
        ("win32", "LOCALAPPDATA", "", tmp_path / "AppData" / "Local"),
    ):
        monkeypatch.setattr(speed.sys, "platform", system)
        monkeypatch.setenv(variable, value)
        assert cache_folder() == expected / "longlive"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert SpeedBook().recall(KEY) is None
    SpeedBook().note(KEY, 1.0, 1.0)


def test_a_key_tells_int8_threads_and_settings():
    """Forbids the speed of one model, or of more threads, promised to another."""
    model = CausalWan(WanModel(TINY).requires_grad_(False))
    key = speed_key(model, StreamConfig(), (48, 32))
    assert key.model == "width 48, 2 layers" and (key.width, key.height, key.steps) == (48, 32, 4)
    threads = torch.get_num_threads()
    assert key.device.endswith(f"{threads} thread{'' if threads == 1 else 's'}")
    other = speed_key(CausalWan(quantise_module(WanModel(TINY).requires_grad_(False))), StreamConfig(), (48, 32))
    assert other.model == "width 48, 2 layers, INT8"
    assert speed_key(model, StreamConfig(positions="relative"), (48, 32)) != key


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def record(tmp_path, laps, video=1200.0, frames=12):
    """Return the book's content after a run of (seconds, made) chunks."""
    clock = Clock()
    recorder = SpeedRecorder(SpeedBook(tmp_path), KEY, clock)
    for seconds, made in laps:
        clock.now += seconds
        recorder.lap(made)
    recorder.finish(video, frames)
    return SpeedBook(tmp_path).recall(KEY)


def test_reused_chunks_and_the_first_do_not_count(tmp_path):
    """Forbids a promise of milliseconds after a render that reused, and one of minutes for a slow start."""
    found = record(tmp_path, [(0.1, False), (100, True), (0.1, False), (2, True), (4, True), (0.1, False)])
    assert found.seconds == pytest.approx(3.0) and found.video_bytes == pytest.approx(1200)


@pytest.mark.parametrize("laps", [[], [(1, True)] * 2, [(1, True)] * 2 + [(1, False)] * 5])
def test_a_short_run_is_not_remembered(tmp_path, laps):
    """Forbids a speed measured on a chunk or two."""
    assert record(tmp_path, laps) is None
    assert not list(tmp_path.iterdir())
    SpeedRecorder(None, KEY).finish(1.0, 1)


def test_a_film_without_frames_is_not_remembered(tmp_path):
    """Forbids a division by zero after a run that failed at its first frame."""
    assert record(tmp_path, [(1, True)] * 4, frames=0) is None
