"""The paper's tables in small: their prompts, their arithmetic, and one of them from end to end."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.tables import rollouts, training
from benchmarks.tables.__main__ import CONFIG, main
from benchmarks.tables.common import Table, one_change, render, single_prompts
from longlive_core.checkpoints.convert import write_lora
from longlive_core.checkpoints.lora.parts import LoraLayer
from longlive_core.run import pipeline
from longlive_core.run.pipeline import Pipeline, model_file
from longlive_core.toybox import world
from longlive_core.train.checkpoint import write_config
from longlive_core.train.settings import ConfigError

from . import tiny


def test_follow_ups_change_the_action_alone():
    """Forbids a table of switches that also change what should stay, that show what training has seen, or that know
    two actions only."""
    stories = one_change(100, 3, 6)
    for story in stories:
        (first, before, _), (at, after, _) = story.segments
        assert (first, at) == (0, 6) and replace(after, action=before.action) == before != after
        assert world.is_held_out(after)
    assert len({(story.segments[0][1].action, story.segments[1][1].action) for story in stories}) > 40


def test_conditions_share_prompts_and_seeds():
    """Forbids differences that are differences of prompts."""
    assert single_prompts(4, 9) == single_prompts(4, 9) != single_prompts(4, 10)
    assert len({story.seed for story in single_prompts(4, 9)}) == 4


def test_a_table_prints_means_intervals_and_paired_differences(tmp_path):
    """Forbids a cell or a difference of other films than it names."""
    table = Table("Some table (1)", "Of nothing.", "its numbers")
    for name, values in {"a": (0.0, 0.5, 1.0), "b": (0.5, 1.0, 1.0)}.items():
        table.add(name, [SimpleNamespace(value=v) for v in values], {"share": lambda s: s.value})
    text = table.text()
    assert "| a | 50.0 [" in text and "| b | 83.3 [" in text and "The paper's own: its numbers" in text
    assert table.difference("share", "a", "b").startswith("share: b - a = 33.3 [")
    table.save(tmp_path, "the command", "the device")
    stored = json.loads((tmp_path / "table_some.json").read_text())
    assert stored["results"]["b"]["share"]["mean"] == pytest.approx(5 / 6)
    assert (stored["command"], stored["device"]) == ("the command", "the device")
    assert stored["films"]["a"]["share"] == [0.0, 0.5, 1.0]


@pytest.mark.slow
def test_a_cut_film_is_that_of_its_shots():
    """Forbids frames of a cut decoded with the VAE's memory of the shot before, which no player would show."""
    pipeline, stories = Pipeline.load("pocket"), one_change(2, 3, 2)
    film = next(iter(render(pipeline, stories, 4, "cut")))
    assert len(film) == 2 * 21
    alone = next(iter(render(pipeline, [replace(story, segments=story.segments[:1]) for story in stories], 2)))
    assert np.array_equal(film[:21], alone)


@pytest.fixture
def tiny_pocket(monkeypatch, tmp_path):
    """A tiny model in the pocket model's place, where no picture is looked at."""
    weights = tiny.write_weights(tmp_path / "weights")
    monkeypatch.setattr(pipeline, "weights_folder", lambda: weights)


@pytest.mark.slow
def test_a_table_from_end_to_end(monkeypatch, capsys, tmp_path, tiny_pocket):
    """Forbids a command that fails where no one runs it."""
    monkeypatch.setattr(rollouts, "CHANGE", 2)
    monkeypatch.setattr(rollouts, "CHUNKS", 8)
    main(["switch", "--films", "2", "--json", str(tmp_path)])
    text = capsys.readouterr().out
    assert all(f"| {transition} |" in text for transition in ("cut", "keep", "recache")) and "94.81" in text
    assert json.loads((tmp_path / "table_switch.json").read_text())["results"]["cut"]["adherence"]["count"] == 2


@pytest.fixture
def folder(tmp_path):
    """As of the pocket model's training: a start and a teacher, here the shipped weights."""
    for name in ("dit", "teacher"):
        (tmp_path / f"{name}.safetensors").symlink_to(model_file("pocket"))
    return tmp_path


@pytest.mark.slow
def test_tables_of_rollouts_from_end_to_end(monkeypatch, capsys, tiny_pocket):
    """Forbids a condition that is missing, or rendered as another one."""
    monkeypatch.setattr(rollouts, "CHUNKS", 5)
    monkeypatch.setattr(rollouts, "WINDOW_CHUNKS", 4)
    main(["window", "--films", "2"])
    text = capsys.readouterr().out
    assert all(f"| {name} |" in text for name in (*map(str, range(3, 25, 3)), "9 + 3 sink"))
    assert "window 9 + 3 sink: 480 keys per layer" in text and "window 21: 840 keys per layer" in text
    main(["int8", "--films", "2"])
    text = capsys.readouterr().out
    assert ("| bf16 |" in text or "| fp32 |" in text) and "| INT8 |" in text
    assert "block linears 2.24 -> 1.14 MB" in text


@pytest.mark.slow
def test_tables_of_training_from_end_to_end(monkeypatch, capsys, tiny_pocket, folder):
    """Forbids a condition that is missing, and a command that fails after an hour of training."""
    monkeypatch.setattr(training, "RANKS", (4, None))
    monkeypatch.setattr(training, "CHANGE", 2)
    monkeypatch.setattr(training, "CHUNKS", 8)  # a window of 3 s after the change and 1.5 s to settle
    common = [
        "--folder",
        str(folder),
        "--out",
        str(folder / "runs"),
        "--films",
        "2",
        "--steps",
        "1",
        "--set",
        "batch=1",
        "--set",
        "lengths={clip: 6, new: 3, longest: 9}",
    ]
    main(["lora", *common])
    text = capsys.readouterr().out
    assert all(f"| {name} |" in text for name in ("before", "rank 4", "all weights"))
    assert "rank 4: 0.04 M parameters" in text and "all weights: 2.80 M" in text
    main(["sink", *common])
    text = capsys.readouterr().out
    assert text.count("| trained ") == 4 and "trained held, filmed held - trained refreshed, filmed held" in text
    main(["long", *common, "--seconds", "6", "--also", "shipped", "pocket"])
    text = capsys.readouterr().out
    assert all(f"| 6 s, {name} |" in text for name in ("without", "with", "shipped"))


@pytest.mark.slow
def test_the_short_films_of_long_tuning_are_the_long_ones_beginnings():
    """Forbids a row of 60 s that reads more or less than the first 60 s, and a model under another's name."""
    pipeline = Pipeline.load("pocket")
    other = Pipeline.load("pocket", dtype="fp32")
    with torch.no_grad():
        for parameter in other.model.module.parameters():
            parameter.zero_()
    both = training.long_tuning({"a": pipeline, "none": other}, 2, 3, (6, 7))
    short = training.long_tuning({"a": pipeline}, 2, 3, (6,))
    assert list(both.values) == ["6 s, a", "6 s, none", "7 s, a", "7 s, none"]
    assert both.values["6 s, a"] == short.values["6 s, a"]
    assert both.values["6 s, none"]["adherence"] == [0.0, 0.0] != both.values["6 s, a"]["adherence"]
    assert any(remark.startswith("6 s, a: adherence at the end is") for remark in both.remarks)


@pytest.mark.slow
def test_long_films_of_existing_models(capsys, tiny_pocket):
    """Forbids a training where there is nothing to train, and rows that are missing."""
    main(["long", "--films", "2", "--seconds", "6", "--also", "one", "pocket", "--also", "two", "pocket"])
    text = capsys.readouterr().out
    assert "| 6 s, one |" in text and "| 6 s, two |" in text and "end: 6 s, two - 6 s, one = 0.0 [0.0, 0.0]" in text


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["long"], "or --also, to render films of existing models"),
        (["long", "--also", "a", "pocket", "--steps", "2"], "--steps: not for the table long without --folder"),
        (["lora"], "lora needs --folder"),
        (["sink", "--folder", "x", "--model", "pocket"], "--model is for switch, window, int8"),
        (["switch", "--steps", "3", "--folder", "x"], "--folder, --steps: not for the table switch"),
        (["sink", "--folder", "x", "--also", "a", "b"], "--also: not for the table sink"),
        (["switch", "--films", "1"], "an interval needs two films or more"),
        (["switch", "--json", "/dev/null"], "cannot write results into"),
    ],
)
def test_errors_are_reported_before_the_work(capsys, arguments, words):
    """Forbids an hour of work before its result cannot be written, and a table that ignores an option."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_another_model_that_is_not_there_is_reported_before_the_training(folder, monkeypatch):
    """Forbids half an hour of training before a mistyped name."""
    monkeypatch.setattr(training, "trained", None)
    with pytest.raises(ValueError, match=r"nowhere\.safetensors"):
        main(["long", "--folder", str(folder), "--also", "x", "nowhere.safetensors"])


def test_the_tables_runs_are_pocket_longs_with_what_is_changed(tmp_path):
    """Forbids runs of other settings than the command says."""
    config = training.tuning(CONFIG, "pocket", tmp_path, 7, {"student_optimiser.rate": "1e-3", "guidance": "1"})
    assert (config.steps, config.save_every, config.guidance, config.student_optimiser.rate) == (7, 7, 1.0, 1e-3)
    assert config.models.teacher == config.models.critic == str(tmp_path / "teacher.safetensors")
    assert config.models.student == "pocket" and config.lengths.longest == 129


def test_a_table_of_other_settings_is_not_that_of_an_old_run(tmp_path):
    """Forbids the films of an earlier run under this one's rate."""
    config = training.tuning(CONFIG, "pocket", tmp_path, 7, {})
    (tmp_path / "run" / "step-000007").mkdir(parents=True)
    write_config(config, tmp_path / "run" / "step-000007" / "config.yaml")
    other = training.tuning(CONFIG, "pocket", tmp_path, 7, {"student_optimiser.rate": "1e-3"})
    with pytest.raises(ConfigError, match="holds a run with other settings; choose another --out"):
        training.trained(other, tmp_path / "run")


def test_tuned_weights_and_a_lora_are_what_is_rendered(tmp_path):
    """Forbids a table that films the shipped model under another name."""
    pipeline = Pipeline.load("pocket", dtype="fp32")
    weight = pipeline.model.module.blocks[0].self_attn.q.weight
    part = LoraLayer(torch.randn(2, weight.shape[1]), torch.randn(weight.shape[0], 2), 2.0)
    lora = write_lora(tmp_path / "lora.safetensors", {"blocks.0.self_attn.q": part}, {})
    plain, tuned = (training.with_weights(pipeline, "pocket", path) for path in (None, lora))
    assert torch.equal(plain.model.module.blocks[0].self_attn.q.weight, weight)
    difference = tuned.model.module.blocks[0].self_attn.q.weight - weight
    torch.testing.assert_close(difference, part.delta(), rtol=0.05, atol=0.05)  # merged weights are rounded to bf16
    assert tuned.decoder is pipeline.decoder and tuned.text is pipeline.text
