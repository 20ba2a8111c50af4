"""Tables of training: with and without long tuning, LoRA ranks, sink policies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from longlive_core.checkpoints import build_model, load_lora, load_state_dict, merge_lora
from longlive_core.config import SINK_POLICIES
from longlive_core.eval.drift import evaluate_drift
from longlive_core.model import CausalWan
from longlive_core.pocket.clip_pool import boundary
from longlive_core.pocket.toybox_prompts import ToyboxPrompts
from longlive_core.run.pipeline import Pipeline, model_file
from longlive_core.toybox import FPS
from longlive_core.train.checkpoint import CONFIG_FILE, checkpoints
from longlive_core.train.config import Config, load_config
from longlive_core.train.parallel import Ranks
from longlive_core.train.run import run
from longlive_core.train.settings import ConfigError, LoraSettings

from .common import Story, Table, one_change, render, score, single_prompts
from .rollouts import CHANGE, CHUNKS

log = logging.getLogger(__name__)

AFTER_A_CHANGE: dict[str, Callable] = {
    "adherence": lambda s: s.adherence,
    "after the change": lambda s: s.segments[1].adherence,
    "goes on": lambda s: float(s.switches[0].smooth),
    "subject consistency": lambda s: s.film_subject_consistency,
}
RANKS: tuple[int | None, ...] = (4, 16, 64, None)  # None: all weights, no LoRA
END = 4  # number of 3 s windows compared at a film's start and end


def with_weights(pipeline: Pipeline, model: str, lora: Path | None = None) -> Pipeline:
    """Return the pipeline with another transformer, optionally with a LoRA merged into it."""
    weights = load_state_dict(model_file(model))
    if lora is not None:
        weights = merge_lora(weights, load_lora(lora), path=lora)
    old = pipeline.model
    return replace(pipeline, model=CausalWan(build_model(weights, old.device, old.dtype, path=model)))


def long_tuning(models: dict[str, Pipeline], count: int, seed: int, lengths: tuple[int, ...]) -> Table:
    """Measure section 3.2 of the paper: long films of models with and without streaming long tuning, by name.

    A film's beginning does not depend on its length, so only films of the greatest length are rendered.
    """
    table = Table(
        "Long tuning (Section 3.2)",
        f"{count} films of {' and '.join(map(str, lengths))} s of one prompt. Start and end: adherence in the first "
        "and the last 12 s. Sharpness: that of the last 3 s relative to the first 6 s; off by: its distance from 1.",
        "figures only: without long tuning quality falls with the film's length, with it 240 s are like the start",
    )
    stories = single_prompts(count, seed)
    rows: dict[int, list[str]] = {seconds: [] for seconds in lengths}
    for name, pipeline in models.items():
        rendered = list(render(pipeline, stories, chunks_of(max(lengths))))
        for seconds in lengths:
            condition = f"{seconds} s, {name}"
            _add_long_films(table, condition, stories, [film[: boundary(chunks_of(seconds))] for film in rendered])
            rows[seconds].append(condition)
            log.info("%s", condition)
    table.values = {condition: table.values[condition] for seconds in lengths for condition in rows[seconds]}
    for conditions in rows.values():
        table.remarks += [_kept(table, condition) for condition in conditions]
        for measure in ("end", "subject consistency", "off by"):
            table.remarks += [table.difference(measure, conditions[0], other) for other in conditions[1:]]
    return table


def chunks_of(seconds: int) -> int:
    """Return the chunks of a film of at least this many seconds."""
    return -(-(seconds * FPS + 3) // 12)


def _add_long_films(table: Table, condition: str, stories: list[Story], rendered: list[np.ndarray]) -> None:
    table.add(
        condition,
        score(stories, iter(rendered), stride=8),
        {
            "adherence": lambda s: s.adherence,
            "start": lambda s: np.mean([window.right for window in s.windows[:END]]),
            "end": lambda s: np.mean([window.right for window in s.windows[-END:]]),
            "subject consistency": lambda s: s.subject_consistency,
        },
    )
    sharpness = [evaluate_drift(film, sink_frames=96).sink.sharpness for film in rendered]
    table.values[condition]["sharpness"] = sharpness
    table.values[condition]["off by"] = [abs(value - 1) for value in sharpness]


def _kept(table: Table, condition: str) -> str:
    start, end = (float(np.mean(table.values[condition][part])) for part in ("start", "end"))
    return f"{condition}: adherence at the end is {100 * end / max(start, 1e-9):.0f} % of that at the start"


def lora_ranks(pipeline: Pipeline, config: Config, folder: Path, count: int, seed: int) -> Table:
    """Measure the paper's Table A: the same tuning with LoRAs of several ranks, and of all weights."""
    table = Table(
        "LoRA ranks (Table A)",
        f"{config.steps} steps of long tuning each, from the same start; then {count} films of 10 s whose action "
        "changes after 4.3 s.",
        "parameters / VBench-Long total: rank 32 44 M / 81.08, 64 87 M / 82.68, 128 175 M / 82.98, 256 350 M / 83.12, "
        "512 700 M / 83.04, all 1.3 B / 83.52",
    )
    stories = one_change(count, seed, CHANGE)
    start = with_weights(pipeline, config.models.student)
    table.add("before", score(stories, render(start, stories, CHUNKS)), AFTER_A_CHANGE)
    for rank in RANKS:
        settings = replace(config, lora=None if rank is None else LoraSettings(rank, float(rank)))
        last = trained(settings, folder / f"rank-{rank or 'all'}")
        lora = None if rank is None else last / "student_lora.safetensors"
        model = config.models.student if rank else str(last / "student.safetensors")
        tuned = with_weights(pipeline, model, lora)
        numbers = (
            sum(t.numel() for t in load_state_dict(model_file(model)).values())
            if lora is None
            else sum(part.up.numel() + part.down.numel() for part in load_lora(lora).values())
        )
        name = f"rank {rank}" if rank else "all weights"
        table.add(name, score(stories, render(tuned, stories, CHUNKS)), AFTER_A_CHANGE)
        table.remarks.append(f"{name}: {numbers / 1e6:.2f} M parameters trained")
    return table


def sink_policies(pipeline: Pipeline, config: Config, folder: Path, count: int, seed: int) -> Table:
    """Measure the same tuning with the sink held and refreshed at a prompt switch, each rendered both ways."""
    table = Table(
        "Sink policies in training",
        f"{config.steps} steps of long tuning with each policy, from the same start; then {count} films of 10 s whose "
        "action changes after 4.3 s, rendered with each policy.",
        "none; the published configurations train with the sink refreshed and render with it held",
    )
    stories = one_change(count, seed, CHANGE)
    for policy in SINK_POLICIES:
        settings = replace(config, stream=replace(config.stream, sink_policy=policy), lora=None)
        last = trained(settings, folder / f"sink-{policy}")
        tuned = with_weights(pipeline, str(last / "student.safetensors"))
        for filmed in SINK_POLICIES:
            rendered = render(tuned, stories, CHUNKS, stream=replace(pipeline.stream, sink_policy=filmed))
            table.add(f"trained {policy}, filmed {filmed}", score(stories, rendered), AFTER_A_CHANGE)
    for measure in AFTER_A_CHANGE:
        table.remarks.append(table.difference(measure, "trained refreshed, filmed held", "trained held, filmed held"))
    return table


def tuned_models(pipeline: Pipeline, config: Config, folder: Path, others: dict[str, str]) -> dict[str, Pipeline]:
    """Return the models of `long_tuning`: the initial model, the tuned one, and others by name."""
    files = {"without": config.models.student, **others}
    models = {name: with_weights(pipeline, file) for name, file in files.items()}  # report wrong names before training
    tuned = with_weights(pipeline, str(trained(config, folder) / "student.safetensors"))
    return {"without": models.pop("without"), "with": tuned, **models}


def trained(config: Config, folder: Path) -> Path:
    """Train, resuming an interrupted run, and return the last checkpoint. ConfigError: the folder has another run."""
    for checkpoint in checkpoints(folder):
        if load_config(checkpoint / CONFIG_FILE) != config:
            raise ConfigError(f"{folder} holds a run with other settings; choose another --out, or remove it")
    return run(config, folder, ToyboxPrompts(config.seed).draw, Ranks())


def tuning(path: Path, student: str, teacher: Path, steps: int, changes: dict[str, str]) -> Config:
    """Return the configuration of the pocket model's long tuning, with the teacher of a folder."""
    return load_config(
        path,
        {
            "models.student": student,
            "models.teacher": str(teacher / "teacher.safetensors"),
            "models.critic": str(teacher / "teacher.safetensors"),
            "steps": steps,
            "save_every": steps,
            **changes,
        },
    )
