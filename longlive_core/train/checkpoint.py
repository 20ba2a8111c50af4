"""Checkpoints of a run: the student's weights in a form that users can load, and each rank's state for resuming.

A checkpoint is a folder `step-000100`. It is written under another name and renamed when complete, so the newest one is
always good.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path

import torch

from ..checkpoints.convert import write_lora
from ..checkpoints.tensor_files import write_safetensors
from .config import Config, from_dict, to_dict
from .lora import lora_layers
from .optimiser import submodule
from .packages import needed
from .settings import ConfigError
from .stage import Stage

log = logging.getLogger(__name__)

STUDENT_FILE, LORA_FILE, CONFIG_FILE = "student.safetensors", "student_lora.safetensors", "config.yaml"
_NAME = re.compile(r"step-(\d{6,})")
# Settings that may change when a run is resumed: its length, what it reports, and the rates, which are lowered after a
# loss that was not finite.
_FREE = (
    "steps",
    "causal.consistency_steps",
    "save_every",
    "keep",
    "log_every",
    "sample_every",
    "sample_seconds",
    "notes",
    "student_optimiser.rate",
    "critic_optimiser.rate",
)


def checkpoints(folder: Path) -> list[Path]:
    """List the complete checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the number of steps done at a checkpoint."""
    return int(_NAME.fullmatch(checkpoint.name)[1])


def save(stage: Stage, folder: Path, steps: int) -> Path:
    """Write a checkpoint after `steps` steps; every rank must call this. Old ones beyond `keep` are removed."""
    target = folder / f"step-{steps:06d}"
    part = folder / f".{target.name}.part"
    ranks = stage.ranks
    if ranks.first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    ranks.barrier()
    torch.save(stage.state_dict(), part / f"state-{ranks.rank}.pt")
    weights = stage.student.optimiser.averaged()
    if ranks.first:
        _write_student(submodule(weights, "student"), part, stage.config, steps)
        write_config(stage.config, part / CONFIG_FILE)
    ranks.barrier()
    if ranks.first:
        os.replace(part, target)
        for old in checkpoints(folder)[: -stage.config.keep]:
            shutil.rmtree(old)
    ranks.barrier()
    return target


def _write_student(weights: dict, folder: Path, config: Config, steps: int) -> None:
    origin = {"made_by": f"longlive_core.train, {steps} steps, seed {config.seed}"}
    half = {name: value.to(torch.bfloat16).cpu() for name, value in weights.items()}
    if config.lora is None:
        write_safetensors(folder / STUDENT_FILE, half, {"format": "pt", **origin})
    else:
        write_lora(folder / LORA_FILE, lora_layers(half, config.lora), origin)


def write_config(config: Config, path: Path) -> None:
    yaml = needed("yaml")
    path.write_text(yaml.safe_dump(to_dict(config), sort_keys=False), encoding="utf-8")


def resume(stage: Stage, folder: Path) -> int:
    """Resume from the newest checkpoint, if any, and return the steps done. ConfigError: it belongs to another run."""
    existing = checkpoints(folder)
    if not existing:
        return 0
    newest = existing[-1]
    _check_same(stage.config, newest)
    ranks = stage.ranks
    states = sorted(newest.glob("state-*.pt"))
    if len(states) != ranks.count:
        raise ConfigError(
            f"{newest} was written by {len(states)} ranks and cannot be resumed with {ranks.count}: start the same "
            "number (torchrun --nproc-per-node), or start a new run in another folder"
        )
    stage.load_state_dict(torch.load(newest / f"state-{ranks.rank}.pt", weights_only=True, map_location=ranks.device))
    log.info("resuming from %s", newest)
    return step_of(newest)


def _check_same(config: Config, checkpoint: Path) -> None:
    yaml = needed("yaml")
    stored = yaml.safe_load((checkpoint / CONFIG_FILE).read_text(encoding="utf-8"))
    # Parsed as a configuration, so that a setting newer than the checkpoint gets its default.
    before, now = (_flat(to_dict(one)) for one in (from_dict(stored), config))
    names = (before.keys() | now.keys()) - set(_FREE)
    differing = sorted(name for name in names if before.get(name) != now.get(name))
    if differing:
        changed = ", ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in differing[:4])
        raise ConfigError(
            f"{checkpoint} belongs to another configuration: {changed}. Change it back, or start a new run "
            "in another folder"
        )


def _flat(table: dict, prefix: str = "") -> dict:
    flat: dict = {}
    for name, value in table.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
