"""`python -m longlive_core eval`: measure films (docs/evaluation.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..words.wording import count, shorten
from .numbers import positive
from .timeline import read_timeline

if TYPE_CHECKING:
    from ..eval import EvaluationSettings, Film, FilmReport


def add_eval(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments; torch is imported only when the command runs."""
    add = parser.add_argument
    add("films", nargs="+", metavar="FILM", help="films rendered by LongLive, or others with --timeline")
    add(
        "--out",
        required=True,
        metavar="FOLDER",
        help="for results.json, CSV tables and plots; created if missing, existing files of the same names are "
        "replaced",
    )
    add("--timeline", metavar="TIMELINE", help="a file or the text; used instead of the films' tags")
    add("--chunk", type=positive, metavar="N", help="latent frames per chunk, for --timeline (default: 3)")
    add("--toybox", action="store_true", help="measure with the toybox's judge (films of the pocket model)")
    add("--clip", metavar="MODEL", help="a CLIP model (folder, or name on the Hugging Face hub)")
    add("--dino", metavar="MODEL", help="a DINO model (folder, or name on the Hugging Face hub)")
    add("--device", default="auto", help="device of CLIP and DINO: auto, cpu, cuda, ... (default: auto)")
    add(
        "--stride",
        type=int,
        metavar="N",
        help="measure every Nth frame (default: 4 for the judge, 8 for CLIP and DINO)",
    )
    add("--no-plots", action="store_true", help="write no PNG files; matplotlib is not needed")
    parser.set_defaults(run=_eval)


def _eval(options: argparse.Namespace) -> None:
    from ..eval import open_film
    from ..eval.evaluate import check_film
    from ..eval.plots import check_matplotlib, plot_film
    from ..eval.report import check_folder, write_reports

    settings = _settings(options)
    timeline = None if options.timeline is None else read_timeline(options.timeline)
    if options.chunk is not None and timeline is None:
        raise ValueError(f"--chunk {options.chunk} needs --timeline; a film's tags have their own chunk")
    films = [open_film(path, timeline, options.chunk or 3) for path in options.films]
    for film in films:  # report errors before minutes of work
        check_film(film, settings)
    folder = check_folder(options.out)
    if not options.no_plots:
        check_matplotlib()
    reports = _measure(films, settings, options)
    written = write_reports(reports, folder, settings, {"clip": options.clip, "dino": options.dino})
    for report in reports:
        written += [] if options.no_plots else plot_film(report, folder)
        print(_describe(report))
    print(_describe_summary(reports), end="")
    if not (options.toybox or options.clip or options.dino):
        print(
            "note: only drift and pixel continuity were measured; --toybox (films of the pocket model) or --clip "
            "and --dino measure adherence and consistency"
        )
    print(f"wrote {', '.join(path.name for path in written)} into {folder}")


def _settings(options: argparse.Namespace) -> EvaluationSettings:
    from ..eval import EvaluationSettings

    strides = {}
    if options.stride is not None and not (options.toybox or options.clip or options.dino):
        raise ValueError(f"--stride {options.stride} is for --toybox, --clip and --dino; drift uses every frame")
    if options.stride is not None and options.toybox:
        strides["judge_stride"] = options.stride
    if options.stride is not None and (options.clip or options.dino):
        strides["feature_stride"] = options.stride
    return EvaluationSettings(options.toybox, **strides)


def _measure(films: Sequence[Film], settings: EvaluationSettings, options: argparse.Namespace) -> list[FilmReport]:
    from tqdm import tqdm

    from ..eval import evaluate_film

    clip = dino = None
    if options.clip or options.dino:
        from ..eval.clip_dino import ClipEncoder, DinoEncoder
        from ..run.pipeline import check_device, resolve_device

        check_device(options.device)
        device = resolve_device(options.device)
        clip = ClipEncoder(options.clip, device) if options.clip else None
        dino = DinoEncoder(options.dino, device) if options.dino else None
    reports = []
    with tqdm(unit="frame", file=sys.stderr) as bar:
        for film, name in zip(films, _names(films), strict=True):
            bar.set_postfix_str(name, refresh=False)
            reports.append(evaluate_film(film, settings, name, clip, dino, bar.update))
    return reports


def _names(films: Sequence[Film]) -> list[str]:
    """Return a name for each film's rows and plots: its file's name, numbered where names are equal."""
    names: list[str] = []
    for film in films:
        stem, number = Path(film.path).stem, 1
        name = stem
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _describe(report: FilmReport) -> str:
    """Format a film's results: a line per measure, then one per segment and one per switch."""
    from ..eval.report import film_row, segment_rows, switch_rows

    row = film_row(report)
    segments = count(row["segments"], "segment")
    lines = [f"{report.name}: {count(row['frames'], 'frame')}, {row['seconds']:.2f} s, {segments}"]
    if report.film.given:
        lines.append(
            f"  its first {report.film.given} frames were given (a picture, a clip, another take); they are "
            "measured too"
        )
    if report.toybox is not None:
        shares = ", ".join(f"{name} {_number(share)}" for name, share in report.toybox.fields.items())
        lines += [
            f"  adherence {_number(row['toybox_adherence'])} ({shares})",
            f"  consistency: subject {_number(row['toybox_subject_consistency'])}, background "
            f"{_number(row['toybox_background_consistency'])}, ground off by "
            f"{_number(row['toybox_ground_error'], 1)} levels",
        ]
    if report.features is not None:
        lines += [
            f"  CLIP score {_number(row['model_clip_score'])}; consistency: subject (DINO) "
            f"{_number(row['model_subject_consistency'], 3)}, background (CLIP) "
            f"{_number(row['model_background_consistency'], 3)}"
        ]
    for which, words in (("sink", "at the end, against the first frames"), ("own", "inside segments")):
        values = ", ".join(
            f"{name} x{_number(row[f'drift_{which}_{name}'])}"
            for name in ("contrast", "saturation", "sharpness", "motion")
        )
        lines.append(f"  drift {words}: colour {_number(row[f'drift_{which}_colour'], 1)} levels, {values}")
    for part in segment_rows(report):
        score = part["toybox_adherence"] if report.toybox is not None else part["model_clip_score"]
        lines.append(f"  {part['start_seconds']:7.2f} s  {_number(score):>6s}  {shorten(part['text'], 70)}")
    for switch in switch_rows(report):
        jump = "" if switch["subject_jump"] is None else f", subject's largest step {switch['subject_jump']:.1f} px"
        lines.append(
            f"  switch at {switch['seconds']:.2f} s ({switch['transition']}): change "
            f"x{_number(switch['pixel_ratio'])} of usual{jump}"
        )
    return "\n".join(lines)


def _describe_summary(reports: Sequence[FilmReport]) -> str:
    from ..eval.report import summary

    if len(reports) < 2:
        return ""
    lines = [f"mean of {count(len(reports), 'film')} [95 % bootstrap interval]:"]
    for name, interval in summary(reports).items():
        only = "" if interval.count == len(reports) else f"  (of {count(interval.count, 'film')})"
        lines.append(f"  {name} {interval}{only}")
    return "\n".join(lines) + "\n"
