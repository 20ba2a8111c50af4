"""A few steps of a tiny distillation or causal start on however many ranks there are; the first writes the weights.

    python -m torch.distributed.run --nproc-per-node 2 tests/train/ranks.py distil|causal OUT.pt STEPS [FOLDER]

With FOLDER, checkpoints are written there after every step, and an existing run is resumed. The causal start takes the
folder `clips` beside OUT.pt.
"""

import os
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from longlive_core.train import checkpoint  # noqa: E402
from longlive_core.train.causal_start.causal_stage import CausalStage  # noqa: E402
from longlive_core.train.config import from_dict  # noqa: E402
from longlive_core.train.distillation.distil_stage import DistilStage  # noqa: E402
from longlive_core.train.optimiser import MasterAdam  # noqa: E402
from longlive_core.train.parallel import Ranks, launched_ranks, shard  # noqa: E402
from longlive_core.train.stage import Stage, Trainee  # noqa: E402
from tests.train import test_causal_stage  # noqa: E402
from tests.train.conftest import tiny  # noqa: E402
from tests.train.test_distil import SETTINGS, draw, encode  # noqa: E402


def distiller(ranks: Ranks) -> DistilStage:
    config = from_dict({**SETTINGS, "batch": 2 // ranks.count, "checkpointing": True})
    models = {name: tiny(seed, checkpointing=True) for seed, name in enumerate(("student", "critic", "teacher"), 1)}
    models["teacher"].module.requires_grad_(False)
    for model in models.values():
        shard(model.module, ranks)
    parts = [
        Trainee(models[name], MasterAdam({name: models[name].module}, betas=(0.0, 0.999), clip=0.05))
        for name in ("student", "critic")
    ]
    return DistilStage(config, *parts, models["teacher"], encode, draw, ranks)


def causal(ranks: Ranks) -> CausalStage:
    models = [tiny(seed, checkpointing=True) for seed in (1, 2, 3)]
    for model in models:
        shard(model.module, ranks)
    return test_causal_stage.stage(Path(sys.argv[2]).parent / "clips", ranks, models, batch=2 // ranks.count)


def _average(stage: CausalStage) -> dict:
    return {f"average {name}": value for name, value in stage.student.optimiser.averaged().items()}


def main() -> None:
    torch.set_num_threads(1)
    with launched_ranks("cpu") as ranks:
        stage: Stage = {"distil": distiller, "causal": causal}[sys.argv[1]](ranks)
        steps, folder = int(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None
        done = checkpoint.resume(stage, folder) if folder else 0
        scalars = []
        for step in range(done, steps):
            scalars.append(stage.step(step))
            if folder:
                checkpoint.save(stage, folder, step + 1)
        other = stage.critic.optimiser.newest() if sys.argv[1] == "distil" else _average(stage)
        weights = {**stage.student.optimiser.newest(), **other}
        if ranks.first:
            torch.save({"weights": weights, "scalars": scalars}, sys.argv[2])


if __name__ == "__main__":
    main()
    # DTensor's caches keep gloo's threads alive, and one that wants Python's lock while Python ends aborts the process
    # (seen once in some sixty runs on a machine with far too much to do). Everything is written by now.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
