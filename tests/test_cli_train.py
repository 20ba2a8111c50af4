"""`python -m longlive_core train`, and its error messages."""

import sys

import pytest

from longlive_core.cli import main
from longlive_core.train.checkpoint import checkpoints

pytestmark = pytest.mark.slow

TINY = [
    "--device",
    "cpu",
    "--set",
    "size=[32, 32]",
    "--set",
    "lengths={clip: 6, new: 3, longest: 9}",
    "--set",
    "steps=2",
    "--set",
    "save_every=1",
    "--set",
    "sample_every=2",
    "--set",
    "sample_seconds=1",
]


def test_a_run_writes_checkpoints_scalars_and_a_film_and_resumes(tmp_path, capsys):
    """Forbids a training that leaves nothing behind, or starts again where it should resume."""
    out = tmp_path / "run"
    assert main(["train", "debug", "--out", str(out), *TINY]) == 0
    assert capsys.readouterr().out.strip() == str(out / "step-000002")
    assert [path.name for path in checkpoints(out)] == ["step-000001", "step-000002"]
    assert (out / "samples" / "step-000002.mp4").stat().st_size > 1000
    assert list(out.glob("events.*"))
    made = (out / "step-000002" / "state-0.pt").stat().st_mtime_ns
    assert main(["train", "debug", "--out", str(out), *TINY, "--set", "steps=3"]) == 0
    assert [path.name for path in checkpoints(out)] == ["step-000001", "step-000002", "step-000003"]
    assert (out / "step-000002" / "state-0.pt").stat().st_mtime_ns == made


def test_the_student_is_logged_however_seldom_the_log_is(tmp_path, caplog):
    """Forbids a log of every second step that never falls on a step of the student's."""
    caplog.set_level("INFO")
    main(["train", "debug", "--out", str(tmp_path / "run"), *TINY, "--set", "log_every=2"])
    assert "step 2 of 2" in caplog.text and "student/dmd" in caplog.text


def answer(capsys, *arguments: str) -> str:
    assert main(["train", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing"], "there is no configuration nothing: pass a file, or one of debug"),
        (["debug", "--set", "steps"], "--set steps: it must be NAME=VALUE"),
        (["debug", "--set", "stepz=3"], "unknown setting stepz"),
        (["debug", "--set", "steps=0"], "steps 0: it must be at least 1"),
        (["debug", "--set", "prompts=nowhere.txt"], "nowhere.txt"),
        (["debug", "--set", "steps.x=1"], "unknown setting steps.x: steps is 12, not a table of settings"),
        (["debug", "--set", "models.student=[a"], "debug.yaml: while parsing"),
        (["debug", "--set", "lora=null", "--set", "lora.rank=0"], "LoRA rank 0"),
        (["debug", "--set", "models.teacher=nowhere.safetensors"], "models.teacher: "),
        (["debug", "--set", "follow_ups=then.txt"], "the toybox has its own"),
        (["debug", "--device", "banana"], "no device 'banana' here"),
    ],
)
def test_errors_are_reported_in_one_line(tmp_path, capsys, arguments, message):
    """Forbids a traceback for what the user can fix, and a run that begins before errors are reported."""
    told = answer(capsys, "--device", "cpu", *arguments, "--out", str(tmp_path / "run"))
    assert message in told and len(told.splitlines()) == 1
    assert not list((tmp_path / "run").glob("step-*"))


def test_prompts_without_follow_ups_are_reported_before_anything_is_loaded(tmp_path, capsys):
    """Forbids a run that fails only at its first prompt switch, because there is no follow-up."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("A red ball rests.\nA blue ball rests.\n")
    told = answer(capsys, "debug", "--set", f"prompts={prompts}", "--out", str(tmp_path / "run"))
    assert "2 of 2 prompts" in told and "follow-ups" in told


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    """Forbids hours of training before it turns out that nothing can be saved."""
    (tmp_path / "file").write_text("")
    assert "file" in answer(capsys, "debug", "--out", str(tmp_path / "file" / "run"), "--device", "cpu")


@pytest.mark.parametrize("module", ["yaml", "peft", "torch.utils.tensorboard"])
def test_a_missing_package_is_reported_with_its_install_command(tmp_path, capsys, monkeypatch, module):
    """Forbids a traceback that leaves the user to find out what training needs."""
    monkeypatch.setitem(sys.modules, module, None)
    told = answer(capsys, "debug", "--out", str(tmp_path / "run"), *TINY)
    assert module in told and "pip install peft pyyaml tensorboard" in told


def test_configuration_that_is_no_table(tmp_path, capsys):
    """Forbids a traceback from YAML."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("- 1\n- 2\n")
    assert "must be a table" in answer(capsys, str(bad), "--out", str(tmp_path / "run"))
    bad.write_text("a: [1\n")
    assert "cannot be read" in answer(capsys, str(bad), "--out", str(tmp_path / "run"))
