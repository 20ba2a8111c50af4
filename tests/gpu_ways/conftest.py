"""Run the selected cases in processes of their own, one for each native dtype, side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from scripts.harness.server import ROOT, comfyui_path

from .cases import Case


class Run:
    """A process and its results so far."""

    def __init__(self, folder, names: list[str]):
        folder.mkdir()
        command = [sys.executable, "-m", "tests.gpu_ways.run", str(folder), *names]
        environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
            )
        self.found: dict[str, dict] = {}

    def result(self, name: str) -> dict:
        while name not in self.found:
            line = self.process.stdout.readline()
            assert line, f"the process ended:\n{self.log.read_text(encoding='utf-8', errors='replace')[-3000:]}"
            if line.startswith("{"):
                result = json.loads(line)
                self.found[result["case"]] = result
        return self.found[name]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def filmed(request, tmp_path_factory) -> Callable[[Case], dict]:
    """What the film of a case is like, from `Studio.film`. Fails with what was raised on the way."""
    if comfyui_path() is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    parameters = (item.callspec.params.get("case") for item in request.session.items if hasattr(item, "callspec"))
    selected = dict.fromkeys(case for case in parameters if isinstance(case, Case))
    folder, groups = tmp_path_factory.mktemp("gpu_ways"), {}
    for case in selected:
        groups.setdefault("fp16" if case.native == "fp16" else "bf16", []).append(case.id)
    runs = {group: Run(folder / group, names) for group, names in groups.items()}

    def film(case: Case) -> dict:
        result = runs["fp16" if case.native == "fp16" else "bf16"].result(case.id)
        if "skipped" in result:
            pytest.skip(result["skipped"])
        assert "raised" not in result, result["raised"]
        return result

    yield film
    for run in runs.values():
        run.stop()
