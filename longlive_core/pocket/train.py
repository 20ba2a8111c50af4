"""Make the pocket model from nothing: `python -m longlive_core.pocket.train --seed 0 --out FOLDER`.

Stages: `vae` trains the VAE; `dit` encodes the clips as it goes (a growing pool), trains the text encoder and the
transformer; `tune` goes on with long films and changes of prompt, `stream` with films of minutes that the model rolls
on from its own cache; `export` writes the files the package ships, of the newer of these two;
`teacher`, only when it is named, makes a bidirectional model of short clips, which distillations need. `--stages` runs
some of them on the results of earlier ones in the same folder; `stream` alone also runs on several processes under
torchrun. Progress goes to the log (standard error).

The shipped weights came from these stages, run one by one; `docs/pocket.md` has their log in short.
"""

import argparse
import logging
import os
from datetime import timedelta
from pathlib import Path

import torch

from ..checkpoints.built_in import weights_folder
from ..device.precision import working_dtype
from ..train.optimiser import submodule
from ..train.parallel import launched_ranks
from ..vae import WanVAE, channels_last
from . import teacher, train_dit, train_vae, tune
from .clip_pool import ClipPool
from .export import export, save_transformer
from .long_clip_pool import LongPool
from .streams import ONLY_ACTION, STREAM_CHUNKS, STREAM_PATTERNS

STAGES = ("vae", "dit", "tune", "stream", "export", "teacher")
SHIPPED = STAGES[:5]  # what makes the package's weights
LONGEST_WAIT = timedelta(minutes=30)  # of one rank for another that still encodes films
log = logging.getLogger(__name__)


def load_vae(folder: Path) -> WanVAE:
    """The VAE of the stage `vae`, in the dtype that the CPU computes in, laid out for speed."""
    vae = WanVAE.from_state_dict(torch.load(folder / "vae.pt", weights_only=True)).to(working_dtype())
    return channels_last(vae)


def run_export(folder: Path, target: Path, note: str) -> int:
    """Stage `export`: from the checkpoints in `folder` to the shipped files in `target`."""
    made = [path for path in (folder / "tuned.pt", folder / "streamed.pt") if path.exists()]
    if not made:
        raise FileNotFoundError(f"{folder} has neither tuned.pt nor streamed.pt; run the stages tune or stream first")
    weights = torch.load(max(made, key=lambda path: path.stat().st_mtime_ns), weights_only=True)["weights"]
    vae = torch.load(folder / "vae.pt", weights_only=True)
    return export(vae, submodule(weights, "dit"), submodule(weights, "text"), target, note)


def run_stream(folder: Path, seed: int, **settings: float | None) -> None:
    """Stage `stream`, on the ranks that torchrun started or on one; `settings` not given are the recipe's."""
    with launched_ranks("cpu", LONGEST_WAIT) as who:
        vae, own = load_vae(folder), seed + tune.RANK_SEEDS * who.rank
        if not who.first:
            logging.disable()
        recipe = tune.StreamRecipe(**{name: value for name, value in settings.items() if value})
        films = LongPool(vae, own + 1, STREAM_CHUNKS, STREAM_PATTERNS, in_row=recipe.streams, only_action=ONLY_ACTION)
        tune.train(ClipPool(vae, seed), LongPool(vae, own), folder, seed, recipe, films, who)
        if who.first:
            export_transformer(folder, "streamed")


def export_transformer(folder: Path, name: str) -> Path:
    """Write the transformer of `NAME.pt` as `NAME.safetensors`, which distillations, tables and `render` take."""
    weights = torch.load(folder / f"{name}.pt", weights_only=True)["weights"]
    save_transformer(submodule(weights, "dit"), folder / f"{name}.safetensors", "pocket.train")
    return folder / f"{name}.safetensors"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the pocket model.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--weights", type=Path, default=weights_folder(), help="folder for the exported files")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=SHIPPED, help="default: all but `teacher`")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--steps", type=int, help="of the transformer (default: the recipe's)")
    parser.add_argument("--tune-steps", type=int, help="of its tuning (default: the recipe's)")
    parser.add_argument("--stream-steps", type=int, help="of the stage `stream` (default: the recipe's)")
    parser.add_argument(
        "--stream-near",
        type=float,
        metavar="ERROR",
        help="largest error of an own chunk that `stream` goes on from (default: 0.8)",
    )
    parser.add_argument(
        "--stream-changes",
        type=float,
        metavar="SHARE",
        help="of the steps of `stream` on the chunk after a change alone (default: none)",
    )
    options = parser.parse_args(arguments)
    if not 0 <= (options.stream_changes or 0) <= 1:
        parser.error(f"--stream-changes is a share of the steps, from 0 to 1, got {options.stream_changes}")
    if options.stream_near is not None and not options.stream_near > 0:
        parser.error(f"--stream-near is an error above 0, got {options.stream_near}")
    if "RANK" in os.environ and options.stages != ["stream"]:
        parser.error(f"torchrun is for `--stages stream` alone, got {', '.join(options.stages)}: run these without it")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    if "vae" in options.stages:
        train_vae.train(options.out, options.seed)
        log.info("vae: %s", train_vae.measure(load_vae(options.out), options.seed + 1))
    if "dit" in options.stages:
        recipe = train_dit.DitRecipe(**({"steps": options.steps} if options.steps else {}))
        train_dit.train(ClipPool(load_vae(options.out), options.seed), options.out, options.seed, recipe)
        export_transformer(options.out, "dit")
    if "tune" in options.stages:
        vae = load_vae(options.out)
        recipe = tune.TuneRecipe(**({"steps": options.tune_steps} if options.tune_steps else {}))
        tune.train(ClipPool(vae, options.seed), LongPool(vae, options.seed), options.out, options.seed, recipe)
        export_transformer(options.out, "tuned")
    if "stream" in options.stages:
        run_stream(
            options.out,
            options.seed,
            steps=options.stream_steps,
            near=options.stream_near,
            changes=options.stream_changes,
        )
    if "teacher" in options.stages:
        vae = load_vae(options.out)
        teacher.train(ClipPool(vae, options.seed), LongPool(vae, options.seed), options.out, options.seed)
        export_transformer(options.out, "teacher")
    if "export" in options.stages:
        note = f"longlive_core.pocket.train, seed {options.seed}"
        log.info("exported %d bytes to %s", run_export(options.out, options.weights, note), options.weights)


if __name__ == "__main__":
    main()
