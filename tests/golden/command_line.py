"""Films by `python -m longlive_core`, in this process: what its users see, independent of the code."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from .matrix import Film

# What differs between two runs: times, dates, what a machine has free or is, where files lie.
MASKED = (
    (r"in [\d.]+ s( \([\d.]+ frames/s\))?$", "in TIME"),
    (r"about [^,\n]* for (\d+ chunks?) \([^)]*\)", r"about TIME for \1 (MEASURED)"),
    (r"which has [\d.]+ \w+ available", "which has SPACE available"),
    (r"[\d.]+ \w?B free", "ROOM free"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE"),
    (r"'[^'\n]*/(?=[^'/\n]+')", "'"),
    (r"(?<=\s)/\S*/", ""),
    (r"^/\S*/", ""),
)


def masked(text: str) -> list[str]:
    """The lines of a text without what differs between two runs."""
    for pattern, instead in MASKED:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


class CommandLine:
    """paths: files by the names that flags use for them. folder: for the films, one for each name."""

    def __init__(self, paths: dict[str, Path], folder: Path):
        self.paths, self.folder = paths, folder

    def run(self, *arguments: str) -> list[str]:
        """Run one command; return its text on both outputs. AssertionError if it failed."""
        code, said, noted = _run(arguments)
        assert code == 0, f"exit code {code}: {noted}"
        return masked(said) + [f"stderr: {line}" for line in masked(noted) if "%|" not in line]

    def render(self, name: str, film: Film, *more: str, takes: bool = True) -> list[str]:
        """Render to `self.film(name)`, with takes into `self.store(name)`."""
        self.film(name).parent.mkdir(parents=True, exist_ok=True)
        stored = ("--takes", str(self.store(name))) if takes else ()
        return self.run("render", film.text, "-o", str(self.film(name)), *stored, *self.flags(film), *more)

    def flags(self, film: Film) -> list[str]:
        files = {"model": "model", "text-encoder": "text_encoder", "vae": "vae"}
        flags = ["--device", "cpu", "--dtype", "fp32", "--duration", str(film.duration)]
        for option, kind in files.items():
            flags += [f"--{option}", str(self.paths[kind])]
        for option, value in film.run.items():
            flags += [f"--{option.replace('_', '-')}", str(value)]
        return flags + [str(self.paths.get(flag, flag)) for flag in film.flags]  # of two the last one counts

    def film(self, name: str) -> Path:
        return self.folder / name.replace(" ", "_") / "film.mp4"

    def store(self, name: str) -> Path:
        return self.film(name).parent / "takes"


def _run(arguments: tuple[str, ...]) -> tuple[int, str, str]:
    said, noted = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(noted), _as_command(arguments):
        try:
            runpy.run_module("longlive_core", run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return code, said.getvalue(), noted.getvalue()


@contextlib.contextmanager
def _as_command(arguments: tuple[str, ...]) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["longlive_core", *arguments]
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def own_place(folder: Path) -> Iterator[None]:
    """Speeds that were measured before are not known, since estimates depend on them; no disk is waited for."""
    with mock.patch.dict(os.environ, {"LONGLIVE_CACHE": str(folder)}), mock.patch("os.fsync", lambda file: None):
        yield
