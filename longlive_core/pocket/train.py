"""Train the pocket model from scratch: `python -m longlive_core.pocket.train --seed 0 --out FOLDER`.

Each stage is a file of its own, `stage_NAME.py`, and uses the files that earlier ones wrote to the folder:

- `vae` trains the VAE;
- `dit` trains the text encoder and the transformer on clips that it encodes as it proceeds (a growing pool);
- `tune` trains both further, on long films with prompt switches;
- `stream` trains the transformer further, on films of minutes that it extends from its own cache;
- `teacher`, only if it is named, trains a bidirectional model of short clips, which distillations need;
- `export` writes the files that the package ships, from the newer result of `tune` and `stream`.

`--stages` selects some of them. `stream` alone also runs on several processes under torchrun. Progress is logged to
standard error. The shipped weights come from these stages, run one by one; see `docs/pocket.md`.
"""

import argparse
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch

from ..checkpoints.built_in import weights_folder
from ..device.precision import working_dtype
from ..train.optimiser import submodule
from ..train.parallel import launched_ranks
from ..vae import WanVAE, channels_last
from . import stage_dit, stage_stream, stage_teacher, stage_tune, stage_vae
from .clip_pool import ClipPool
from .export import export, save_transformer
from .film_pool import FilmPool

LONGEST_WAIT = timedelta(minutes=30)  # for which a rank waits for another that still encodes films
log = logging.getLogger(__name__)


def load_vae(folder: Path) -> WanVAE:
    """Load the VAE of the stage `vae`, in the dtype in which the CPU computes, laid out for speed."""
    vae = WanVAE.from_state_dict(torch.load(folder / "vae.pt", weights_only=True)).to(working_dtype())
    return channels_last(vae)


def run_vae(options: argparse.Namespace) -> None:
    stage_vae.train(options.out, options.seed)
    log.info("vae: %s", stage_vae.measure(load_vae(options.out), options.seed + 1))


def run_dit(options: argparse.Namespace) -> None:
    settings = _changed(stage_dit.DitSettings(), steps=options.steps)
    stage_dit.train(ClipPool(load_vae(options.out), options.seed), options.out, options.seed, settings)
    export_transformer(options.out, "dit")


def run_tune(options: argparse.Namespace) -> None:
    vae, settings = load_vae(options.out), _changed(stage_tune.TuneSettings(), steps=options.tune_steps)
    pool, films = ClipPool(vae, options.seed), FilmPool(vae, options.seed)
    stage_tune.train(pool, films, options.out, options.seed, settings)
    export_transformer(options.out, "tuned")


def run_stream(options: argparse.Namespace) -> None:
    """Run on the ranks that torchrun started, or on one."""
    chosen = {"steps": options.stream_steps, "near": options.stream_near, "changes": options.stream_changes}
    settings = _changed(stage_stream.StreamSettings(), **chosen)
    with launched_ranks("cpu", LONGEST_WAIT) as ranks:
        if not ranks.first:
            logging.disable()
        vae, own_seed = load_vae(options.out), options.seed + stage_stream.RANK_SEEDS * ranks.rank
        pool, films = ClipPool(vae, options.seed), FilmPool(vae, own_seed)
        true_films = stage_stream.stream_films(vae, own_seed + 1, settings)
        stage_stream.train(pool, films, true_films, options.out, options.seed, settings, ranks)
        if ranks.first:
            export_transformer(options.out, "streamed")


def run_teacher(options: argparse.Namespace) -> None:
    vae = load_vae(options.out)
    stage_teacher.train(ClipPool(vae, options.seed), FilmPool(vae, options.seed), options.out, options.seed)
    export_transformer(options.out, "teacher")


def run_export(options: argparse.Namespace) -> None:
    size = export_newest(options.out, options.weights, f"longlive_core.pocket.train, seed {options.seed}")
    log.info("exported %d bytes to %s", size, options.weights)


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "vae": run_vae,
    "dit": run_dit,
    "tune": run_tune,
    "stream": run_stream,
    "teacher": run_teacher,
    "export": run_export,
}  # in the order in which they run
SHIPPED = [name for name in STAGES if name != "teacher"]  # what the package's weights need


def _changed(settings, **values):
    """Return the settings with those values that the command line gives."""
    return replace(settings, **{name: value for name, value in values.items() if value})


def export_transformer(folder: Path, name: str) -> Path:
    """Write the transformer of `NAME.pt` as `NAME.safetensors`, which distillations, tables and `render` load."""
    weights = torch.load(folder / f"{name}.pt", weights_only=True)["weights"]
    save_transformer(submodule(weights, "dit"), folder / f"{name}.safetensors", "pocket.train")
    return folder / f"{name}.safetensors"


def export_newest(folder: Path, target: Path, note: str) -> int:
    """Write the shipped files to `target` from the newer of `tuned.pt` and `streamed.pt`; return their bytes."""
    candidates = [path for path in (folder / "tuned.pt", folder / "streamed.pt") if path.exists()]
    if not candidates:
        raise FileNotFoundError(f"{folder} has neither tuned.pt nor streamed.pt; run the stages tune or stream first")
    newest = max(candidates, key=lambda path: path.stat().st_mtime_ns)
    weights = torch.load(newest, weights_only=True)["weights"]
    vae = torch.load(folder / "vae.pt", weights_only=True)
    return export(vae, submodule(weights, "dit"), submodule(weights, "text"), target, note)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the pocket model.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--weights", type=Path, default=weights_folder(), help="folder for the exported files")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=SHIPPED, help="default: all but `teacher`")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--steps", type=int, help="steps of the stage `dit` (default: its settings')")
    parser.add_argument("--tune-steps", type=int, help="steps of the stage `tune` (default: its settings')")
    parser.add_argument("--stream-steps", type=int, help="steps of the stage `stream` (default: its settings')")
    parser.add_argument(
        "--stream-near",
        type=float,
        metavar="ERROR",
        help="largest error of an own chunk from which `stream` continues (default: 0.8)",
    )
    parser.add_argument(
        "--stream-changes",
        type=float,
        metavar="SHARE",
        help="share of the steps of `stream` that train the chunk after a switch alone (default: none)",
    )
    options = parser.parse_args(arguments)
    if not 0 <= (options.stream_changes or 0) <= 1:
        parser.error(f"--stream-changes is a share of the steps, from 0 to 1, got {options.stream_changes}")
    if options.stream_near is not None and not options.stream_near > 0:
        parser.error(f"--stream-near is an error above 0, got {options.stream_near}")
    if "RANK" in os.environ and options.stages != ["stream"]:
        parser.error(f"torchrun is for `--stages stream` alone, got {', '.join(options.stages)}: run these without it")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, run in STAGES.items():
        if name in options.stages:
            run(options)


if __name__ == "__main__":
    main()
