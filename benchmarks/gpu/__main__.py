"""The command line: run the steps, print a table, write JSON files to a folder."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __doc__ as purpose
from .environment import PACK, Environment, prepare
from .notes import Setting, graphics_card, now, read_json, write_json
from .runner import PASSED, run_steps
from .steps import PARTS, STEPS, limit_of, step

SUMMARY = "summary.json"
CELL = 400  # characters of an error in the table; the JSON files have all


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every step passed, else 1."""
    options = _parse(arguments)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    (out / "log.txt").unlink(missing_ok=True)
    chosen = [step(name) for name in options.step] or [s for s in STEPS if options.part in (None, s.part)]
    budget = limit_of(chosen) * options.patience
    with tempfile.TemporaryDirectory(prefix="longlive-gpu-", ignore_cleanup_errors=True) as work:
        device = options.device or _device()
        setting = Setting(device, options.tiny, Path(work), options.patience)
        environment = prepare(options.pack, Path(work))
        print(f"{len(chosen)} steps on {device}, results in {out}. {environment.trouble}", flush=True)
        run_steps(chosen, setting, out, budget, environment, say=_say)
    return _summarise(out, environment, sys.argv[1:] if arguments is None else arguments)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=purpose, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the JSON files go")
    parser.add_argument("--part", type=int, choices=PARTS, help="only this half of the steps")
    parser.add_argument("--step", action="append", default=[], choices=[s.name for s in STEPS], help="only this one")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the command itself, on a CPU too")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")
    parser.add_argument(
        "--pack",
        type=Path,
        default=PACK,
        metavar="FOLDER",
        help="what scripts/gpu_pack wrote, for packages that are missing here (default: .cache/gpu_pack)",
    )
    parser.add_argument("--patience", type=float, default=1.0, metavar="X", help="all limits times X, for slow cards")
    options = parser.parse_args(arguments)
    if not options.patience > 0:
        parser.error(f"--patience {options.patience:g}: it must be above 0")
    return options


def _say(text: str) -> None:
    print(text, flush=True)


def _device() -> str:
    """Return "cuda" if it is available. Another process checks, so that this one uses none of the card's memory."""
    ask = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    return subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def _summarise(out: Path, environment: Environment, arguments: Sequence[str]) -> int:
    """Collect all reports of the folder, also those of an earlier part, in one file and one table."""
    reports = [report for one in STEPS if (report := read_json(out / f"{one.name}.json"))]
    names = ("step", "status", "seconds", "date", "headline", "error")
    summary = {
        "date": now(),
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *arguments]),
        "commit": environment.commit,
        "graphics card": graphics_card(),
        "packages": environment.sources,
        "conditions": next((r["conditions"] for r in reports if "conditions" in r), {}),
        "steps": [{name: report[name] for name in names if name in report} for report in reports],
    }
    write_json(out / SUMMARY, summary)
    print(table(summary["steps"]), flush=True)
    return 0 if all(report["status"] == PASSED for report in reports) else 1


def table(steps: Sequence[dict[str, Any]]) -> str:
    """Return the reports as a Markdown table, to paste into an issue."""
    rows = [(s["step"], s["status"], f"{s['seconds']:g}", _outcome(s)) for s in steps]
    lines = ["| step | | seconds | |", "|---|---|---:|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _outcome(entry: dict[str, Any]) -> str:
    """Return one cell of the table: the results and the error."""
    parts = [" ".join(str(entry[name]).split()) for name in ("error", "headline") if name in entry]
    return ". ".join(part if len(part) <= CELL else f"{part[: CELL // 2]} ... {part[-CELL // 2 :]}" for part in parts)


if __name__ == "__main__":
    sys.exit(main())
