"""`check --film`: a short fixed story with the given files, and a report of it to paste into an issue.

Leaves film.mp4, sheet.png and report.md in a folder. The report is always written: if the film fails, it states how far
it got and why.
"""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..film.contact_sheet import contact_sheet
from ..timeline import Plan, parse
from ..words.quantities import gigabytes
from .film_run import FilmRun, RunObserver
from .memory import free_memory
from .pipeline import WANTED, Pipeline, is_pocket, model_file, vae_file
from .render import film_run, render_film
from .speed import device_name

Say = Callable[[str], None]
FILM, SHEET, REPORT = "film.mp4", "sheet.png", "report.md"
SEED = 0
SECONDS = 15.0
# A change of action in one shot, then a cut: a report must show a subject that stays, and one that disappears.
STORY = """0s A red fox with a white-tipped tail walks through a snowy pine forest, soft morning light, cinematic.
6s A red fox with a white-tipped tail lies down in a snowy pine forest, soft morning light, cinematic.
11s A small sailing boat on a calm sea at sunset, warm light, cinematic. {cut}"""
POCKET_STORY = """0s A red ball bounces on a meadow.
6s A red ball grows and shrinks on a meadow.
11s A blue star moves right in the night sky. {cut}"""
DIGEST_BYTES = 2**22


@dataclass
class Findings:
    """Content of the report.

    Attributes:
        checked: lines of `check`.
        files: (name, bytes, SHA-256) by kind.
        facts: of the run, by their names, in order.
        chunks: seconds of each chunk.
        error: the reason if there is no film, else "".
    """

    checked: Sequence[str] = ()
    files: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    chunks: list[float] = field(default_factory=list)
    error: str = ""


def require_files(model: str | os.PathLike, text_encoder, vae) -> None:
    """Raise ValueError if files for a film are missing, before minutes of checking."""
    given = {"text_encoder": text_encoder, "vae": vae}
    missing = [name for name, path in given.items() if path is None and not is_pocket(model)]
    if missing:
        what = "; ".join(f"--{name.replace('_', '-')}: {WANTED[name]}" for name in missing)
        raise ValueError(f"--film renders a film with {model}, which needs more files. Give {what}")


def film_report(
    folder: str | os.PathLike, files: Mapping[str, Any], checked: Sequence[str], in_order: bool, say: Say = print
) -> None:
    """Render the story into `folder`, unless `check` found a fault, and write the report there either way.

    files: the arguments of `Pipeline.load`. checked: the lines of `check`. Raises what rendering raises.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (FILM, SHEET, REPORT):
        (folder / name).unlink(missing_ok=True)
    findings = Findings(checked)
    try:
        findings.files = hashes(files)
        if in_order:
            _render(folder, files, findings, say)
        else:
            findings.error = "check found a fault, so no film was rendered"
    except BaseException as error:
        findings.error = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise
    finally:
        (folder / REPORT).write_text(report(findings), encoding="utf-8")
        say(f"{folder / REPORT}: paste it into an issue{f', with {folder / SHEET}' * (folder / SHEET).exists()}")


def hashes(files: Mapping[str, Any]) -> dict[str, tuple[str, int, str]]:
    """Return name, bytes and SHA-256 of every given file, and of the built-in ones that are used instead."""
    paths = {
        "model": model_file(files["model"]),
        "LoRA": files["lora"],
        "text encoder": files["text_encoder"],
        "VAE": vae_file(files["vae"]),
    }
    found = {}
    for what, path in paths.items():
        if path is not None and Path(path).is_file():
            found[what] = (Path(path).name, Path(path).stat().st_size, sha256(path))
    return found


def sha256(path: str | os.PathLike) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(DIGEST_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _render(folder: Path, files: Mapping[str, Any], findings: Findings, say: Say) -> None:
    facts, began = findings.facts, time.perf_counter()
    pipeline = Pipeline.load(**files)
    facts["loading"] = f"{time.perf_counter() - began:.1f} s"
    text = POCKET_STORY if is_pocket(files["model"]) else STORY
    plan, size = parse(text).plan(SECONDS, chunk=pipeline.stream.chunk), pipeline.default_size
    facts |= _settings(pipeline, plan)
    timing = _Timing(plan.chunks, findings.chunks, say)
    run = film_run(
        pipeline,
        plan,
        folder / FILM,
        stream=pipeline.stream,
        size=size,
        seed=SEED,
        timeline=text,
        model_name=Path(files["model"]).name,
        observer=timing,
    )
    need = run.estimate().need
    facts["memory, estimated"] = need.describe()
    facts["placement"] = need.placement.name
    _note_peak(pipeline.device, facts, reset=True)
    began = time.perf_counter()
    try:
        frames = render_film(run).frames
    finally:
        _note_peak(pipeline.device, facts)
    seconds = time.perf_counter() - began
    facts["speed"] = f"{frames} frames in {seconds:.1f} s, {frames / seconds:.2f} frames/s with prompts and encoding"
    facts["film, SHA-256"] = sha256(folder / FILM)
    contact_sheet(folder / FILM, folder / SHEET, prompts=[(s.start_seconds, s.text) for s in plan.segments])


class _Timing(RunObserver):
    """Measures and reports the seconds of every chunk."""

    def __init__(self, chunks: int, seconds: list[float], say: Say):
        self._chunks, self._seconds, self._say = chunks, seconds, say

    def planned(self, run: FilmRun) -> None:
        self._last = time.perf_counter()

    def chunk(self, chunk: int, frames: np.ndarray | None) -> None:
        now = time.perf_counter()
        self._seconds.append(now - self._last)
        self._last = now
        self._say(f"chunk {chunk + 1} of {self._chunks}: {self._seconds[-1]:.2f} s")

    def report(self, text: str) -> None:
        self._say(text)


def _settings(pipeline: Pipeline, plan: Plan) -> dict[str, str]:
    stream, (width, height) = pipeline.stream, pipeline.default_size
    dtypes = {str(part.dtype).removeprefix("torch.") for part in (pipeline.model, pipeline.decoder)}
    return {
        "device": f"{device_name(pipeline.device)}, {_version(pipeline.device)}",
        "free there": gigabytes(free) if (free := free_memory(pipeline.device)) is not None else "unknown",
        "dtype": ", ".join(sorted(dtypes)),
        "film": f"{width} x {height}, {plan.frames} frames, {plan.chunks} chunks, seed {SEED}",
        "settings": f"window {stream.window}, sink {stream.sink}, chunk {stream.chunk}, {stream.positions} positions, "
        f"steps {', '.join(map(str, stream.denoising_steps))}, shift {stream.shift:g}",
    }


def _version(device: torch.device) -> str:
    if device.type == "cuda":
        return f"HIP {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
    return platform.system()


def _note_peak(device: torch.device, facts: dict[str, Any], reset: bool = False) -> None:
    """Record the peak of allocated memory; on a CPU that of the whole process, on Windows none."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        facts["memory, at most"] = (
            f"{gigabytes(torch.cuda.max_memory_allocated(device))} allocated, "
            f"{gigabytes(torch.cuda.max_memory_reserved(device))} reserved"
        )
    elif sys.platform != "win32":
        import resource

        scale = 1 if sys.platform == "darwin" else 1024
        facts["memory, at most"] = f"{gigabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale)} (process)"


def report(findings: Findings) -> str:
    """Return the report as Markdown."""
    rows = {
        "date": date.today().isoformat(),
        "system": platform.platform(),
        "versions": f"PyTorch {torch.__version__}, Python {platform.python_version()}",
        **findings.facts,
    }
    if findings.chunks:
        first, *others = findings.chunks
        steady = f", then {statistics.median(others):.2f} s (median), {max(others):.2f} s at most" if others else ""
        rows["chunks"] = f"{len(findings.chunks)} rendered: the first {first:.2f} s{steady}"
    lines = [
        "# LongLive: check --film",
        "",
        f"**{findings.error or 'The film was rendered.'}**",
        "",
        "Do the pictures look right? Attach sheet.png.",
        "",
        "| | |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "| file | name | bytes | SHA-256 |", "|---|---|---:|---|"]
    lines += [f"| {what} | {name} | {size} | {digest} |" for what, (name, size, digest) in findings.files.items()]
    lines += ["", "```", *findings.checked, "```", ""]
    return without_home("\n".join(lines))


def without_home(text: str) -> str:
    """Replace the home folder by ~: the report is pasted into public issues."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return text.replace(home, "~") if len(home) > 1 else text
