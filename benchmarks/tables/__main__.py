"""The paper's tables in small, on the pocket model.

    python -m benchmarks.tables switch
    python -m benchmarks.tables window
    python -m benchmarks.tables int8
    python -m benchmarks.tables long --before longlive_before.safetensors
    python -m benchmarks.tables lora --teacher FOLDER
    python -m benchmarks.tables sink --teacher FOLDER

Every cell is a mean over films in percent with its 95 % bootstrap interval. `--json FOLDER` stores the numbers.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from longlive_core.cli_train import changes
from longlive_core.pipeline import Pipeline

from . import rollouts, training
from .common import Table, device_of

FILMS = {"switch": 32, "window": 16, "int8": 24, "long": 6, "lora": 24, "sink": 24}  # where differences are clear
CONFIG = Path(__file__).parents[2] / "longlive_core/train/configs/pocket-long.yaml"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=FILMS)
    parser.add_argument("--films", type=int, help=f"films of each condition (default: {FILMS})")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--model", default="pocket", help="the model; lora, sink: what they start from")
    parser.add_argument("--before", type=Path, help="long: the model before its long tuning")
    parser.add_argument("--also", nargs=2, action="append", default=[], metavar=("NAME", "MODEL"),
                        help="long: another model, and what its rows are called")  # fmt: skip
    parser.add_argument("--seconds", type=int, nargs="+", default=[60, 240], help="long: lengths of the films")
    parser.add_argument("--teacher", type=Path, help="lora, sink: the folder of `pocket.train`'s stage `teacher`")
    parser.add_argument("--steps", type=int, default=75, help="lora, sink: critic steps of each run")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="lora, sink: change a setting of pocket-long, as for `train`")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("output/ranks"), help="lora, sink: folder of the runs")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    pipeline = Pipeline.load("pocket", dtype="bf16")
    if options.model != "pocket":
        pipeline = training.with_weights(pipeline, options.model)
    table = measure(pipeline, options, parser)
    command = "python -m benchmarks.tables " + " ".join(arguments or sys.argv[1:])
    table.save(options.json, command, device_of(pipeline))
    sys.stdout.write(table.text() + "\n")


def measure(pipeline: Pipeline, options: argparse.Namespace, parser: argparse.ArgumentParser) -> Table:
    count, seed = options.films or FILMS[options.table], options.seed
    if options.table == "switch":
        return rollouts.switch_strategies(pipeline, count, seed)
    if options.table == "window":
        return rollouts.windows(pipeline, count, seed)
    if options.table == "int8":
        return rollouts.int8(pipeline, count, seed)
    if options.table == "long":
        if options.before is None:
            parser.error("long needs --before, the model before its long tuning")
        files = {"without": str(options.before), "with": options.model, **dict(options.also)}
        models = {name: training.with_weights(pipeline, file) for name, file in files.items()}
        return training.long_tuning(models, count, seed, tuple(options.seconds))
    if options.teacher is None:
        parser.error(f"{options.table} needs --teacher, the folder of the stage `teacher` (python -m "
                     "longlive_core.pocket.train --stages teacher)")  # fmt: skip
    config = training.tuning(CONFIG, options.model, options.teacher, options.steps, changes(options.set))
    make = training.lora_ranks if options.table == "lora" else training.sink_policies
    return make(pipeline, config, options.out, count, seed)


if __name__ == "__main__":
    main()
