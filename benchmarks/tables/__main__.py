"""The paper's tables, in small, on the pocket model.

    python -m benchmarks.tables switch
    python -m benchmarks.tables window
    python -m benchmarks.tables int8
    python -m benchmarks.tables long --folder FOLDER --also shipped pocket
    python -m benchmarks.tables long --also tuned FOLDER/tuned.safetensors --also shipped pocket
    python -m benchmarks.tables lora --folder FOLDER
    python -m benchmarks.tables sink --folder FOLDER

FOLDER is that of `python -m longlive_core.pocket.train --stages vae dit tune teacher`: tuning starts from its
dit.safetensors, with its teacher.safetensors as teacher and critic. Every cell is a mean over films in percent with its
95 % bootstrap interval. `--json FOLDER` stores the numbers.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from longlive_core.cli.numbers import positive
from longlive_core.cli.train import changes
from longlive_core.eval.report import check_folder
from longlive_core.run.pipeline import Pipeline

from . import rollouts, training
from .common import Table, device_of

FILMS = {"switch": 32, "window": 16, "int8": 24, "long": 6, "lora": 24, "sink": 24}  # enough for clear differences
STEPS = {"long": 300, "lora": 75, "sink": 75}  # critic steps of a tuning
ROLLOUTS = {"switch": rollouts.switch_strategies, "window": rollouts.windows, "int8": rollouts.int8}
CONFIG = Path(__file__).parents[2] / "longlive_core/train/configs/pocket-long.yaml"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=FILMS)
    parser.add_argument("--films", type=_two_or_more, help=f"films of each condition (default: {FILMS})")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--model", help="switch, window, int8: the model (default: the built-in one)")
    parser.add_argument("--folder", type=Path, help="long, lora, sink: folder of `longlive_core.pocket.train`")
    parser.add_argument(
        "--start",
        metavar="MODEL",
        help="long, lora, sink: initial model of the tuning (default: dit.safetensors of --folder)",
    )
    parser.add_argument("--steps", type=positive, help=f"critic steps of a tuning (default: {STEPS})")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="long, lora, sink: change a setting of pocket-long, as for `train`",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("output/tables"),
        help="long, lora, sink: folder of the runs; an existing run is resumed",
    )
    parser.add_argument(
        "--also",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "MODEL"),
        help="long: another model, and the name of its rows; without --folder only these are rendered",
    )
    parser.add_argument("--seconds", type=positive, nargs="+", default=[60, 240], help="long: lengths of the films")
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--json", type=_folder, metavar="FOLDER")
    options = parser.parse_args(arguments)
    _check(options, parser)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    pipeline = Pipeline.load("pocket")
    table = measure(pipeline, options)
    sys.stdout.write(table.text() + "\n")
    command = "python -m benchmarks.tables " + " ".join(arguments or sys.argv[1:])
    table.save(options.json, command, device_of(pipeline))


def measure(pipeline: Pipeline, options: argparse.Namespace) -> Table:
    """Measure the requested table."""
    count, seed = options.films or FILMS[options.table], options.seed
    if options.table in ROLLOUTS:
        chosen = training.with_weights(pipeline, options.model) if options.model else pipeline
        return ROLLOUTS[options.table](chosen, count, seed)
    if options.folder is None:  # `long` of existing models
        models = {name: training.with_weights(pipeline, model) for name, model in options.also}
        return training.long_tuning(models, count, seed, tuple(options.seconds))
    start = options.start or str(options.folder / "dit.safetensors")
    steps = options.steps or STEPS[options.table]
    config = training.tuning(CONFIG, start, options.folder, steps, changes(options.set))
    if options.table == "long":
        models = training.tuned_models(pipeline, config, options.out / "long", dict(options.also))
        return training.long_tuning(models, count, seed, tuple(options.seconds))
    make = training.lora_ranks if options.table == "lora" else training.sink_policies
    return make(pipeline, config, options.out, count, seed)


def _check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Report errors before minutes of work, and options that would have no effect."""
    tunes = options.table in STEPS
    films_only = options.table == "long" and options.also and options.folder is None
    if tunes and options.folder is None and not films_only:
        parser.error(
            f"{options.table} needs --folder, that of `python -m longlive_core.pocket.train` with the stages "
            "dit and teacher: the tuning starts from its dit.safetensors"
            + ("; or --also, to render films of existing models" if options.table == "long" else "")
        )
    if tunes and options.model:
        parser.error(f"--model is for {', '.join(ROLLOUTS)}; {options.table} trains its own, from --start")
    given = {"--folder": options.folder, "--start": options.start, "--steps": options.steps, "--set": options.set}
    wrong = [] if tunes and not films_only else [name for name, value in given.items() if value]
    wrong += ["--also"] if options.also and options.table != "long" else []
    if wrong:
        parser.error(
            f"{', '.join(wrong)}: not for the table {options.table}"
            + (" without --folder, which tunes nothing" if films_only else "")
        )


def _two_or_more(text: str) -> int:
    if (number := positive(text)) < 2:
        raise argparse.ArgumentTypeError(f"{text}: an interval needs two films or more")
    return number


def _folder(text: str) -> Path:
    try:
        return check_folder(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
