"""Result files: everything as JSON; tables with one row per film, segment and switch as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .adherence import ALL_FIELDS
from .bootstrap import Interval, bootstrap_mean
from .continuity import Jump
from .drift import MEASURES
from .evaluate import EvaluationSettings, FilmReport
from .film_file import FilmSegment

FORMAT = 1
_TOYBOX = ("adherence", "subject_as_asked", "subject_consistency", "background_consistency", "ground_error")
_FEATURES = ("clip_score", "subject_consistency", "background_consistency")
_WHOLE = ("film_subject_consistency", "film_background_consistency")


def check_folder(folder: str | Path) -> Path:
    """Create the folder of the results if needed. ValueError if it is not writable."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / "results.json.part"
        probe.open("wb").close()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"cannot write results into '{folder}' ({error.strerror}); choose a folder you may write to"
        ) from error
    return folder


def film_row(report: FilmReport) -> dict[str, Any]:
    """Return a film's row. None for what was not measured; the columns are always the same."""
    row: dict[str, Any] = {
        "film": report.name,
        "frames": report.drift.frames,
        "seconds": round(report.seconds, 3),
        "segments": len(report.film.segments),
    }
    row |= _fields("toybox", report.toybox, (*_TOYBOX, *_WHOLE, "smooth"))
    row |= {f"toybox_{field}": report.toybox and report.toybox.fields[field] for field in ALL_FIELDS}
    row |= _fields("model", report.features, (*_FEATURES, *_WHOLE))
    row |= _fields("drift_sink", report.drift.sink, ("colour", *MEASURES))
    return row | _fields("drift_own", report.drift.own, ("colour", *MEASURES))


def segment_rows(report: FilmReport) -> list[dict[str, Any]]:
    """Return one row per segment, in order; its drift is that of its last window."""
    starts = [segment.start for segment in report.film.segments]
    rows = []
    for number, (segment, end) in enumerate(zip(report.film.segments, [*starts[1:], report.drift.frames], strict=True)):
        judged = report.toybox and report.toybox.segments[number]
        window = next((w for w in reversed(report.drift.windows) if w.segment == number), None)
        row = {
            "film": report.name,
            "segment": number + 1,
            "start_frame": segment.start,
            "end_frame": end,
            "start_seconds": round(segment.start / report.film.fps, 3),
            "transition": segment.transition,
            "text": segment.text,
        }
        row |= _fields("toybox", judged, ("windows", *_TOYBOX))
        row |= {f"toybox_{field}": judged and judged.fields[field] for field in ALL_FIELDS}
        row |= _fields("model", report.features and report.features.segments[number], (*_FEATURES, "prompt_cut"))
        row |= _fields("drift_sink", window and window.sink, ("colour", *MEASURES))
        rows.append(row | _fields("drift_own", window and window.own, ("colour", *MEASURES)))
    return rows


def switch_rows(report: FilmReport) -> list[dict[str, Any]]:
    """Return one row per switch, in order."""
    features = report.features
    rows = []
    for number, jump in enumerate(report.drift.switches):
        judged = report.toybox and report.toybox.switches[number]
        clip = features.clip_switches[number] if features and number < len(features.clip_switches) else None
        dino = features.dino_switches[number] if features and number < len(features.dino_switches) else None
        rows.append(
            {
                "film": report.name,
                "frame": jump.frame,
                "seconds": round(jump.frame / report.film.fps, 3),
                "transition": _segment_at(report.film.segments, jump.frame).transition,
                **_fields("subject", judged, ("jump", "unseen", "smooth")),
                **_jump("pixel", jump),
                **_jump("clip", clip),
                **_jump("dino", dino),
            }
        )
    return rows


def _segment_at(segments: Sequence[FilmSegment], frame: int) -> FilmSegment:
    return next(segment for segment in segments if segment.start == frame)


def _jump(prefix: str, jump: Jump | None) -> dict[str, float | None]:
    return {f"{prefix}_{name}": jump and getattr(jump, name) for name in ("largest", "usual", "ratio")}


def _fields(prefix: str, values: Any, names: Sequence[str]) -> dict[str, Any]:
    return {f"{prefix}_{name}": values and getattr(values, name) for name in names}


def summary(reports: Sequence[FilmReport]) -> dict[str, Interval]:
    """Return mean and 95 % interval over films of every `film_row` column with values of two or more films."""
    rows, intervals = [film_row(report) for report in reports], {}
    for column in [name for name in (rows[0] if rows else ()) if name not in ("film", "frames", "seconds", "segments")]:
        values = [row[column] for row in rows if row[column] is not None]
        if len(values) > 1:
            intervals[column] = bootstrap_mean(values)
    return intervals


def write_reports(
    reports: Sequence[FilmReport],
    folder: str | Path,
    settings: EvaluationSettings,
    models: Mapping[str, str | None] | None = None,
) -> list[Path]:
    """Write results.json, films.csv, segments.csv and, if there is a switch, switches.csv; return their paths.

    models: names of the CLIP and DINO models, to be recorded. ValueError if a file cannot be written.
    """
    folder = check_folder(folder)
    result = {
        "format": FORMAT,
        "settings": {**asdict(settings), **(models or {})},
        "summary": {name: asdict(interval) for name, interval in summary(reports).items()},
        "films": [asdict(report) for report in reports],
    }
    tables = {
        "films.csv": [film_row(report) for report in reports],
        "segments.csv": [row for report in reports for row in segment_rows(report)],
        "switches.csv": [row for report in reports for row in switch_rows(report)],
    }
    try:
        path = folder / "results.json"
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
        for name in tables:
            (folder / name).unlink(missing_ok=True)  # may be left by an earlier evaluation of films with a switch
        return [path, *(_write_table(folder / name, rows) for name, rows in tables.items() if rows)]
    except OSError as error:
        raise ValueError(f"cannot write results into '{folder}' ({error.strerror})") from error


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path
