"""Shared by all tables: prompts, films, scores with intervals, printing and storing a table.

Films of two conditions have the same prompts and seeds, so differences are paired. Scores are the toybox judge's
(docs/evaluation.md). Shapes: B films rendered together, T frames.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import torch

from longlive_core.config import StreamConfig, Transition
from longlive_core.eval.adherence import ToyboxScore, evaluate_toybox
from longlive_core.eval.bootstrap import bootstrap_difference, bootstrap_mean
from longlive_core.pocket.clip_pool import boundary
from longlive_core.pocket.sampling import render_prompts
from longlive_core.run.pipeline import Pipeline
from longlive_core.toybox import world
from longlive_core.toybox.captions import caption
from longlive_core.toybox.world import Attributes

BATCH = 8


@dataclass(frozen=True)
class Story:
    """A film's requested segments, (first chunk, attributes, sentence) each, and its seed."""

    segments: tuple[tuple[int, Attributes, str], ...]
    seed: int


def single_prompts(count: int, seed: int) -> list[Story]:
    """Return films of one prompt each, of combinations held out of training."""
    rng = np.random.default_rng(seed)
    looks = [world.random_attributes(rng, held_out=True) for _ in range(count)]
    return [Story(((0, look, caption(look, rng)),), seed + number) for number, look in enumerate(looks)]


def one_change(count: int, seed: int, chunk: int) -> list[Story]:
    """Return films with one prompt switch, like the paper's follow-ups: same subject and setting, another action.

    The prompt after the switch is held out of training. The one before need not be, or all switches would be between
    `left` and `rest` (`world.is_held_out`).
    """
    rng, stories = np.random.default_rng(seed), []
    for number in range(count):
        before, after = _another_action(rng)
        stories.append(Story(((0, before, caption(before, rng)), (chunk, after, caption(after, rng))), seed + number))
    return stories


def _another_action(rng: np.random.Generator) -> tuple[Attributes, Attributes]:
    after = world.random_attributes(rng, held_out=True)
    others = [action for action in world.ACTIONS if action != after.action]
    return replace(after, action=others[rng.integers(len(others))]), after


def render(
    pipeline: Pipeline,
    stories: Sequence[Story],
    chunks: int,
    transition: Transition = "recache",
    stream: StreamConfig | None = None,
) -> Iterator[np.ndarray]:
    """Yield films, uint8 [T, 80, 128, 3], batch by batch; all stories must switch at the same chunks."""
    for first in range(0, len(stories), BATCH):
        batch = stories[first : first + BATCH]
        prompts = [
            (at, [story.segments[number][2] for story in batch]) for number, (at, _, _) in enumerate(batch[0].segments)
        ]
        yield from render_prompts(pipeline, prompts, chunks, [story.seed for story in batch], transition, stream)


def score(stories: Sequence[Story], rendered: Iterator[np.ndarray], stride: int = 4) -> list[ToyboxScore]:
    """Return the judge's scores of films, in order."""
    return [
        evaluate_toybox(film, [(boundary(at), look) for at, look, _ in story.segments], stride)
        for story, film in zip(stories, rendered, strict=True)
    ]


@dataclass
class Table:
    """A table of conditions by measures; every cell is a mean over films with its bootstrap interval.

    Attributes:
        name, about: title and description.
        paper: the paper's own results, as text.
        values: per condition and measure, one number per film.
        remarks: other measurements, one line each.
    """

    name: str
    about: str
    paper: str
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, condition: str, scores: Sequence[ToyboxScore], measures: dict[str, Callable]) -> None:
        self.values[condition] = {name: [float(read(one)) for one in scores] for name, read in measures.items()}

    def difference(self, measure: str, before: str, after: str) -> str:
        """Format `after` - `before` over the same films, with its interval."""
        interval = bootstrap_difference(self.values[before][measure], self.values[after][measure])
        return f"{measure}: {after} - {before} = {_points(interval)}"

    def text(self) -> str:
        """Format the table as Markdown."""
        measures = list(next(iter(self.values.values())))
        head = [f"| | {' | '.join(measures)} |", "|---|" + "---|" * len(measures)]
        lines = [f"### {self.name}", "", self.about, "", *head]
        for condition, columns in self.values.items():
            cells = (_points(bootstrap_mean(columns[measure])) for measure in measures)
            lines.append(f"| {condition} | {' | '.join(cells)} |")
        return "\n".join([*lines, "", *self.remarks, "", "The paper's own: " + self.paper])

    def save(self, folder: Path | None, command: str, device: str) -> None:
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        intervals = {
            condition: {name: vars(bootstrap_mean(values)) for name, values in columns.items()}
            for condition, columns in self.values.items()
        }
        content = {
            "date": date.today().isoformat(),
            "device": device,
            "command": command,
            "seconds": round(time.monotonic() - self.started),
            "about": self.about,
            "results": intervals,
            "remarks": self.remarks,
            "paper": self.paper,
            "films": self.values,
        }
        path = folder / f"table_{self.name.split()[0].lower()}.json"
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def device_of(pipeline: Pipeline) -> str:
    """Describe the device that a table is measured on."""
    dtype = str(pipeline.model.dtype).removeprefix("torch.")
    if pipeline.device.type == "cuda":
        return f"{torch.cuda.get_device_name(pipeline.device)}, {dtype}"
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}, {dtype}"


def _points(interval) -> str:
    """Format a share in percent, with its interval."""
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
