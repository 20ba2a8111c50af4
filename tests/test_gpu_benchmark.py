"""`python -m benchmarks.gpu` on a CPU: steps are isolated, always report, and say what they hold for."""

import json
import os
import signal
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from benchmarks import rollout as bench
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import environment, plans, recordings, server
from benchmarks.gpu.environment import Environment
from benchmarks.gpu.notes import Notes, Setting, read_json
from benchmarks.gpu.runner import FAILED, KILLED, PASSED, SKIPPED, run_steps
from benchmarks.gpu.steps import PARTS, STEPS, Step, limit_of
from longlive_core.run.memory import NotEnoughMemory
from scripts import standins

pytestmark = pytest.mark.slow

NOTE = "import json, sys; open(sys.argv[1], 'w').write(json.dumps({'film': 7}));"
CODE = {
    "fine": f"{NOTE}",
    "raises": f"{NOTE} print('the last words'); sys.exit(3)",
    "crashes": f"{NOTE} import os; os.abort()",
    # Starts a process of its own that would outlive it, says which, and hangs.
    "hangs": f"{NOTE} import subprocess; p = subprocess.Popen([sys.executable, '-c', "
    "'import threading; threading.Event().wait()']); "
    "open(sys.argv[1], 'w').write(json.dumps({'film': 7, 'child': p.pid})); p.wait()",
}


@pytest.fixture
def setting(tmp_path):
    (tmp_path / "work").mkdir()
    return Setting("cpu", True, tmp_path / "work")


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes.json")


def run_codes(names, setting, out, budget=600.0, limits=None, **fields):
    """Steps that run a piece of CODE each. -> their reports by name."""
    out.mkdir(exist_ok=True)
    steps = [Step(name, 1, (limits or {}).get(name, 60.0), "none", **fields) for name in names]
    surroundings = Environment(dict(os.environ), {}, None, "unknown")

    def code_command(step, setting, found):
        return [sys.executable, "-c", CODE[step.name], str(found)]

    reports = run_steps(steps, setting, out, budget, surroundings, code_command, say=lambda text: None)
    return {report["step"]: report for report in reports}


@pytest.mark.parametrize("bad", ["raises", "crashes"])
def test_a_bad_step_is_reported_and_the_next_one_runs(bad, setting, tmp_path):
    """Forbids that one fault costs the figures of all later steps, or what the step had found before it."""
    found = run_codes([bad, "fine"], setting, tmp_path / "out")
    assert [found[bad]["status"], found["fine"]["status"]] == [FAILED, PASSED]
    assert read_json(tmp_path / "out" / f"{bad}.json") == found[bad]
    assert found[bad]["film"] == found["fine"]["film"] == 7
    assert "exit code" in found[bad]["error"]
    assert ("the last words" in found["raises"]["log tail"]) if bad == "raises" else True


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_a_step_is_ended_at_its_limit_with_all_that_it_started(setting, tmp_path):
    """Forbids a hanging step, a server that outlives its step and keeps the card, and the loss of what was found."""
    (setting.work / "server").mkdir()
    (setting.work / "server" / "server.log").write_text("CUDA error\n", encoding="utf-8")
    found = run_codes(["hangs", "fine"], setting, tmp_path / "out", limits={"hangs": 8.0})
    assert found["hangs"]["server log"] == ["CUDA error"] and "server log" not in found["fine"]
    assert [found["hangs"]["status"], found["fine"]["status"]] == [KILLED, PASSED]
    assert found["hangs"]["film"] == 7 and "ended after 8 s" in found["hangs"]["error"]
    child = found["hangs"]["child"]
    alive = Path(f"/proc/{child}/stat").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text()
    if alive:
        os.kill(child, signal.SIGKILL)
    assert not alive


def test_steps_beyond_the_budget_and_without_packages_are_skipped_with_the_reason(setting, tmp_path):
    """Forbids a part of more than ten minutes, and a traceback where a package is missing."""
    out = tmp_path / "out"
    late = run_codes(["fine"], setting, out, budget=0.0)["fine"]
    bare = run_codes(["fine"], setting, out, needs=("av",), comfyui=True)["fine"]
    assert late["status"] == bare["status"] == SKIPPED
    assert "--step fine" in late["error"]
    assert all(words in bare["error"] for words in ("av", "COMFYUI_PATH", "scripts/gpu_pack"))


def test_every_part_ends_within_ten_minutes():
    """Forbids limits that together are longer than a part, or both parts, may take."""
    assert all(limit_of([step for step in STEPS if step.part == part]) < 600 for part in PARTS)
    assert limit_of(STEPS) <= 13 * 60


def test_the_command_leaves_json_and_a_table(tmp_path, capsys):
    """Forbids figures without date, device, versions and command, and a film whose frames were not counted."""
    out = tmp_path / "out"
    assert command.main(["--out", str(out), "--tiny", "--device", "cpu", "--step", "speed_int8"]) == 0
    summary, speed = read_json(out / "summary.json"), read_json(out / "speed_int8.json")
    assert summary["command"] == f"python -m benchmarks.gpu --out {out} --tiny --device cpu --step speed_int8"
    assert summary["conditions"]["torch"] == torch.__version__ and summary["conditions"]["device"]
    assert {"date", "commit", "graphics card", "packages"} <= set(summary)
    assert [entry["status"] for entry in summary["steps"]] == [PASSED]
    film = speed["film"]
    assert film["frames counted in the MP4"] == 24 and film["chunks timed"] == 1
    assert {"median", "p95", "maximum"} == set(film["milliseconds per chunk, vae"])
    assert "stall at a change of prompt, milliseconds" in film and "peak memory GB" in speed
    assert set(speed["time to the first frame, milliseconds"]) == {"first film of the process", "later"}
    assert speed["naive twin"]["largest difference of latents, relative"] < 0.05
    assert "| speed_int8 | passed |" in capsys.readouterr().out


def test_a_failed_step_is_the_commands_exit_code(tmp_path, capsys):
    """Forbids a green end over a red step."""
    out = tmp_path / "out"
    out.mkdir()
    failed = {"step": "ceilings", "status": FAILED, "seconds": 1.0, "error": "x" * 2000}
    (out / "ceilings.json").write_text(json.dumps(failed), encoding="utf-8")
    assert command._summarise(out, Environment({}, {}, None, "abc"), []) == 1
    line = capsys.readouterr().out.splitlines()[-1]
    assert "| ceilings | failed |" in line and len(line) < 600


def test_an_exception_in_a_step_is_in_its_json(tmp_path):
    """Forbids a child process whose error is not recorded in its file."""
    from benchmarks.gpu import step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "_differences", lambda *given: {"latents": 1.0})
        code = step.main(
            ["recordings", "--json", str(tmp_path / "a.json"), "--work", str(tmp_path), "--device", "cpu", "--tiny"]
        )
    found = read_json(tmp_path / "a.json")
    assert code == 1 and "outside the bound" in found["error"] and found["headline"].startswith("0 of 1")
    assert found["conditions"]["torch"] == torch.__version__


def test_the_vae_is_timed_in_evaluation_mode():
    """Forbids timing the copies that dropout makes while training."""
    model, decoder = bench.build(bench.MODELS["tiny"], "cpu", torch.float32)
    assert not any(part.training for module in (model.module, decoder.module) for part in module.modules())


def test_the_prompt_switch_is_reported_separately():
    """Forbids a stall that hides in the median, and a warm-up that counts."""
    times = bench.FilmTimes(warm=1, change=3)
    for transformer in (900, 10, 12, 50, 14):
        times.add([transformer, 1, 1, 1])
    found = times.summary()
    assert found["chunks timed"] == 3 and found["stall at a change of prompt, milliseconds"] == 38
    assert found["milliseconds per chunk, transformer"] == {"median": 12, "p95": 14, "maximum": 14}


def test_plans_tell_films_refusals_and_faults_apart(setting, notes, monkeypatch):
    """Forbids that a refusal counts as a fault, or a fault as a refusal."""
    answers = iter(
        [
            {"placement": "resident", "peak GB": 9, "seconds per chunk": 1, "film": "a"},
            NotEnoughMemory("12 GB are there; lower width and height"),
            RuntimeError("illegal access"),
            {"placement": "cache moves", "peak GB": 7, "seconds per chunk": 1, "film": "b"},
        ]
    )

    def film(setting):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(plans, "film", film)
    with pytest.raises(RuntimeError, match="12 GB"):
        plans.run(setting, notes)
    cards = notes.content["cards"]
    assert "lower width" in cards["16 GB"]["refused"] and "illegal access" in cards["12 GB"]["error"]
    assert notes.content["headline"].startswith("24 GB: resident, 9 GB, 1 s a chunk; 16 GB: refused")
    assert notes.content["all films are equal"] is False


def test_a_smaller_card_is_reported_everywhere(monkeypatch):
    """Forbids a limit that PyTorch enforces and the pack does not see, and one that stays."""
    fractions, real = [], lambda device=None: (70 * 2**30, 80 * 2**30)
    for name, value in (
        ("mem_get_info", real),
        ("memory_reserved", lambda: 2**30),
        ("empty_cache", lambda: None),
        ("reset_peak_memory_stats", lambda: None),
        ("set_per_process_memory_fraction", fractions.append),
    ):
        monkeypatch.setattr(torch.cuda, name, value)
    with plans.card_of(8, "cuda"):
        free, total = torch.cuda.mem_get_info()
        assert total == int(7.2 * 2**30) and free == total - 2**30
    assert torch.cuda.mem_get_info is real
    assert fractions == [pytest.approx(7.2 / 80), 1.0]


def test_a_film_of_the_plans_is_a_whole_render(setting):
    """Forbids a seam that bypasses the steps of a user's render: placement, estimate, film."""
    first, again = plans.film(setting), plans.film(setting)
    assert first["frames"] == 12 * plans.CHUNKS - 3 and len(first["seconds of each chunk"]) == plans.CHUNKS
    assert first["placement"] == "resident" and first["estimate GB"] >= 0 and first["film"] == again["film"]


def test_inputs_are_put_in_by_name():
    """Forbids a workflow that runs with its own settings because a name changed, and a link that is overwritten."""
    graph = {
        "1": {"class_type": "A", "inputs": {"model": ["2", 0], "seed": 1}},
        "2": {"class_type": "B", "inputs": {"model": "a.pt"}},
    }
    changed = server.with_inputs(graph, model="b.pt", seed=2)
    assert changed["1"]["inputs"] == {"model": ["2", 0], "seed": 2} and changed["2"]["inputs"] == {"model": "b.pt"}
    assert graph["1"]["inputs"]["seed"] == 1
    with pytest.raises(KeyError, match="no node has an input sed"):
        server.with_inputs(graph, sed=1)


def test_the_highest_figures_of_memory_are_kept():
    """Forbids a report of the memory that was left after the film."""
    highest = {}
    for used in (5, 9, 2):
        device = {
            "vram_total": 24e9,
            "vram_free": (24 - used) * 1e9,
            "torch_vram_total": used * 1e9,
            "torch_vram_free": 0,
        }
        server.note_memory({"devices": [device], "system": {"ram_total": 64e9, "ram_free": 60e9}}, highest)
    assert highest["device used GB"] == highest["PyTorch reserved GB"] == 9 and highest["main memory used GB"] == 4


def make_pack(folder, made_for):
    (folder / "wheel").mkdir(parents=True)
    (folder / "wheel" / "longlive_absent.py").write_text("here = True\n", encoding="utf-8")
    with tarfile.open(folder / "absent.tar.xz", "w:xz") as tar:
        tar.add(folder / "wheel" / "longlive_absent.py", "longlive_absent.py")
    packages = {"longlive-absent": {"archive": "absent.tar.xz", "version": "1.2"}}
    manifest = {"made for": made_for, "packages": packages, "commit": "abc"}
    (folder / environment.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", {"json": "json", "longlive_absent": "longlive-absent"})


def test_what_is_missing_comes_from_the_pack(absent, tmp_path):
    """Forbids steps that fail for a package that is in the pack, and a pack that hides what is installed."""
    pack = make_pack(tmp_path / "pack", environment.this_python())
    found = environment.prepare(pack, tmp_path / "work")
    assert found.sources == {"json": "environment", "longlive_absent": "pack: longlive-absent 1.2"}
    assert str(tmp_path / "work" / "site") in found.variables["PYTHONPATH"].split(os.pathsep)
    assert (tmp_path / "work" / "site" / "longlive_absent.py").is_file() and not found.trouble


def test_a_pack_for_another_python_is_not_used(absent, tmp_path):
    """Forbids binaries of another Python, and silence about them."""
    pack = make_pack(tmp_path / "pack", "Python 2.7, Linux x86_64")
    found = environment.prepare(pack, tmp_path / "work")
    assert "longlive_absent" not in found.sources and "Python 2.7" in found.trouble
    assert found.missing(Step("a", 1, 1.0, "a", needs=("longlive_absent", "json"))) == ["longlive-absent"]


def test_stand_ins_take_the_place_of_what_is_not_installed():
    """Forbids a ComfyUI that does not start on a bare machine, and a stand-in for an installed package."""
    before = list(sys.meta_path)
    try:
        assert standins.provide(["json", "longlive_nowhere"]) == ["longlive_nowhere"]
        from longlive_nowhere.some.part import Base, decorate

        class Child(Base):
            @decorate
            def method(self):
                return 3

        assert Child().method() == 3
    finally:
        sys.meta_path[:] = before
        for name in [name for name in sys.modules if name.startswith("longlive_nowhere")]:
            del sys.modules[name]
