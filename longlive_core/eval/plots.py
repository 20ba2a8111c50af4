"""Plots of results, with the optional package matplotlib (`pip install matplotlib`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .drift import MEASURES
from .evaluate import FilmReport

_INCH = 100  # pixels
_TITLE_LETTERS = 44


def check_matplotlib() -> None:
    """Raise ValueError if plots cannot be drawn; call this before measuring, not after."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"plots need matplotlib, which cannot be imported ({error}); run pip install matplotlib, or add --no-plots"
        ) from error


def plot_film(report: FilmReport, folder: str | Path) -> list[Path]:
    """Write NAME_drift.png, and NAME_adherence.png if judge or CLIP measured the film; return their paths.

    ValueError if matplotlib is missing or a file cannot be written.
    """
    check_matplotlib()
    written = [_drift(report, Path(folder) / f"{report.name}_drift.png")]
    if report.toybox is not None or (report.features and report.features.clip_score is not None):
        written.append(_adherence(report, Path(folder) / f"{report.name}_adherence.png"))
    return written


def _figure(rows: int, height: float, width: float = 9.0):
    # Without pyplot: no window and no global state, with any backend of the user's.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=_INCH)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, 1, sharex=rows > 1, squeeze=False)[:, 0]


def _save(figure, path: Path) -> Path:
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise ValueError(f"cannot write the plot '{path}' ({error.strerror}); choose another folder") from error
    return path


def _drift(report: FilmReport, path: Path) -> Path:
    figure, axes = _figure(5, 9.0)
    for axis, name in zip(axes, ("colour", *MEASURES), strict=True):
        _curve(axis, report, name, "sink", "o-", "against the first frames")
        _curve(axis, report, name, "own", "s--", "against its segment's first window")
        axis.axhline(0 if name == "colour" else 1, color="0.7", linewidth=0.8)
        axis.set_ylabel("colour\n(levels)" if name == "colour" else f"{name}\n(ratio)")
        for segment in report.film.segments[1:]:
            axis.axvline(segment.start / report.film.fps, color="0.4", linestyle=":", linewidth=1)
    axes[0].legend(fontsize="small")
    axes[0].set_title(f"{_plain(report.name)}: drift (dotted: switches)")
    axes[-1].set_xlabel("seconds")
    return _save(figure, path)


def _curve(axis, report: FilmReport, name: str, which: str, style: str, label: str) -> None:
    for number in range(len(report.film.segments)):  # no line across a switch: changes there are not drift
        part = [window for window in report.drift.windows if window.segment == number]
        times = [(window.start + window.end) / 2 / report.film.fps for window in part]
        values = [_shown(getattr(getattr(window, which), name)) for window in part]
        axis.plot(
            times,
            values,
            style,
            color="C0" if which == "sink" else "C1",
            markersize=3,
            linewidth=1,
            label=None if number else label,
        )


def _adherence(report: FilmReport, path: Path) -> Path:
    parts: list[tuple[str, list[tuple[str, list[float | None]]]]] = []
    if report.toybox is not None:
        segments = report.toybox.segments
        lines = [("all three", [segment.adherence for segment in segments])]
        lines += [(field, [segment.fields[field] for segment in segments]) for field in ("colour", "setting", "action")]
        parts.append(("share of 3 s windows", lines))
    if report.features is not None and report.features.clip_score is not None:
        parts.append(("CLIP score", [("CLIP", [segment.clip_score for segment in report.features.segments])]))
    figure, axes = _figure(len(parts), 1.5 + 2.5 * len(parts))
    for axis, (label, lines) in zip(axes, parts, strict=True):
        _bars(axis, lines)
        axis.set_ylabel(label)
    axes[0].set_title(f"{_plain(report.name)}: adherence by segment")
    axes[-1].set_xticks(range(len(report.film.segments)), _labels(report), rotation=20, ha="right", fontsize="small")
    return _save(figure, path)


def _bars(axis, lines: Sequence[tuple[str, Sequence[float | None]]]) -> None:
    width = 0.8 / len(lines)
    for number, (label, values) in enumerate(lines):
        places = [index + (number - (len(lines) - 1) / 2) * width for index in range(len(values))]
        axis.bar(places, [_shown(value) for value in values], width, label=label, color=f"C{number}")
    if len(lines) > 1:
        axis.set_ylim(0, 1.2)  # room for the legend
        axis.legend(fontsize="small", ncols=len(lines), loc="upper center")


def _shown(value: float | None) -> float:
    return float("nan") if value is None else value


def _labels(report: FilmReport) -> list[str]:
    texts = [
        segment.text if len(segment.text) <= _TITLE_LETTERS else f"{segment.text[: _TITLE_LETTERS - 3]}..."
        for segment in report.film.segments
    ]
    return [
        f"{segment.start / report.film.fps:.1f} s  {_plain(text)}"
        for segment, text in zip(report.film.segments, texts, strict=True)
    ]


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would typeset text between two of them as mathematics
