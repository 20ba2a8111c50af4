"""Run steps one after the other, each in a separate process, and collect their reports."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .environment import ROOT, Environment
from .notes import Setting, graphics_card, now, read_json, write_json
from .steps import Step

SERVER_LOG = Path("server", "server.log")  # in the folder for large files
TAIL = 60  # lines of a failed step's output in its report
PASSED, FAILED, KILLED, SKIPPED = "passed", "failed", "ended at its limit", "skipped"
Command = Callable[[Step, Setting, Path], Sequence[str]]


def step_command(step: Step, setting: Setting, found: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "benchmarks.gpu.step",
        step.name,
        "--json",
        str(found),
        "--work",
        str(setting.work),
        "--device",
        setting.device,
        "--patience",
        str(setting.patience),
        *["--tiny"] * setting.tiny,
    ]


def run_steps(
    steps: Sequence[Step],
    setting: Setting,
    out: Path,
    budget: float,
    environment: Environment,
    command: Command = step_command,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Run all steps and return their reports, also written to `out`/NAME.json. budget: seconds for all of them."""
    reports, ends = [], time.monotonic() + budget
    for step in steps:
        say(f"{step.name}: up to {step.limit * setting.patience:g} s")
        absent = environment.missing(step)
        limit = min(step.limit * setting.patience, ends - time.monotonic())
        if absent:
            report = _not_run(
                step,
                f"these packages are missing: {', '.join(absent)}; install them, or bring a pack "
                "that scripts/gpu_pack made",
            )
        elif limit <= 0:
            report = _not_run(
                step, f"the steps before it took all of the {budget:g} s; run it alone: --step {step.name}"
            )
        else:
            report = run_step(step, setting, out, limit, environment.variables, command)
        write_json(out / f"{step.name}.json", report)
        reports.append(report)
        outcome = report.get("headline") or report.get("error", "")
        say(f"{step.name}: {report['status']} in {report['seconds']} s. {outcome}")
    return reports


def _not_run(step: Step, why: str) -> dict[str, Any]:
    return {"step": step.name, "status": SKIPPED, "date": now(), "seconds": 0.0, "error": why}


def run_step(
    step: Step, setting: Setting, out: Path, limit: float, variables: dict[str, str], command: Command = step_command
) -> dict[str, Any]:
    """Run a step to its end or its limit and return its report in any case. variables: of the environment."""
    found, log = setting.work / f"{step.name}.notes.json", out / "log.txt"
    found.unlink(missing_ok=True)
    line, began = command(step, setting, found), time.monotonic()
    report = {
        "step": step.name,
        "status": PASSED,
        "date": now(),
        "seconds": 0.0,
        "limit seconds": round(limit, 1),
        "command": f"python -m benchmarks.gpu --out FOLDER --step {step.name}{' --tiny' * setting.tiny}",
        "graphics card": graphics_card(),
    }
    with log.open("ab") as output:
        output.write(f"\n===== {step.name}\n".encode())
        output.flush()
        start = output.tell()
        code = _run_until(line, limit, variables, output)
    report["seconds"] = round(time.monotonic() - began, 1)
    report |= read_json(found)
    if code != 0:
        report["status"] = KILLED if code is None else FAILED
        late = f"ended after {limit:.0f} s; --patience 3 gives it three times as long"
        report.setdefault("error", late if code is None else f"exit code {code}")
        report["log tail"] = _tail(log, start)
        if (server_log := setting.work / SERVER_LOG).exists():  # a server's step that was ended could not read it
            report.setdefault("server log", _tail(server_log, 0))
    return report


def _run_until(line: Sequence[str], limit: float, variables: dict[str, str], output) -> int | None:
    """Return the exit code, or None if the process and all that it started were ended at the limit."""
    group = {"start_new_session": True} if os.name == "posix" else {"creationflags": 0x200}  # a new process group
    process = subprocess.Popen(
        line, cwd=ROOT, env=variables, stdout=output, stderr=output, stdin=subprocess.DEVNULL, **group
    )
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started. Its children may still run after it has ended."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing of it is left
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
    process.wait()


def _tail(log: Path, start: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode("utf-8", "replace").splitlines()[-TAIL:]
