"""Plot the curves of training runs as one picture: `python -m benchmarks.curves RUN --out curves.png`.

Shows what TensorBoard shows: the losses of a distillation or of a causal start, and their running means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

TAGS = {  # plotted in this order, if the run has them
    "critic/loss": "critic: flow-matching loss",
    "student/dmd": "student: DMD loss",
    "student/direction": "student: mean |DMD direction|",
    "student/gradient_norm": "student: norm of the gradient",
    "autoregressive/loss": "causal start, first half: loss",
    "consistency/loss": "causal start, second half: loss",
}
MEAN_OVER = 20  # points


def scalars(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read (steps, values) of each scalar. An interrupted run has several files; a later one takes precedence from its
    first step on."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves: dict[str, dict[int, float]] = {}
    files = [EventAccumulator(str(file)).Reload() for file in folder.glob("events.out.tfevents.*")]
    for events in sorted(files, key=lambda one: one.FirstEventTimestamp()):
        logged = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
        first = min((min(values) for values in logged.values()), default=0)
        for tag, values in logged.items():
            before = {step: value for step, value in curves.get(tag, {}).items() if step < first}
            curves[tag] = before | values
    if not curves:
        raise SystemExit(f"{folder} holds no TensorBoard files: pass the folder that `train --out` wrote")
    return {
        tag: (np.array(sorted(values)), np.array([values[step] for step in sorted(values)]))
        for tag, values in curves.items()
    }


def running_mean(values: np.ndarray, count: int = MEAN_OVER) -> np.ndarray:
    """Return the mean of each value and the `count - 1` before it (fewer at the start)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - count)
    return (sums[ends] - sums[starts]) / (ends - starts)


def plot(runs: dict[str, Path], target: Path) -> None:
    """Plot one panel per scalar, one line per run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = {name: scalars(folder) for name, folder in runs.items()}
    tags = [tag for tag in TAGS if any(tag in logged for logged in curves.values())]
    if not tags:
        raise SystemExit(f"none of these runs logged any of {', '.join(TAGS)}")
    figure, axes = pyplot.subplots(1, len(tags), figsize=(4 * len(tags), 3), layout="constrained", squeeze=False)
    for axis, tag in zip(axes[0], tags, strict=True):
        for number, (name, logged) in enumerate(curves.items()):
            steps, values = logged.get(tag, (np.array([]), np.array([])))
            axis.plot(steps, values, color=f"C{number}", alpha=0.2)
            axis.plot(steps, running_mean(values), color=f"C{number}", label=name)
        axis.set_title(TAGS[tag], fontsize="medium")
        axis.set_xlabel("critic step")
    axes[0][0].legend(frameon=False, fontsize="small")
    figure.savefig(target, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a folder of `train --out`")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    options = parser.parse_args()
    plot({str(folder): folder for folder in options.runs}, options.out)


if __name__ == "__main__":
    main()
