"""`render`: a timeline, or a film to render again, becomes an MP4."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..timeline import plan_text
from ..words.wording import count, hint_lines
from .model_files import file_options
from .render_options import RenderSettings, add_render_options, check_options, read_settings
from .start import read_start
from .timeline import Source, read_source

if TYPE_CHECKING:
    from ..run.film_run import FilmRun
    from ..run.pipeline import Pipeline
    from ..takes import TakeStore
    from ..timeline import Plan


def add_render(render: argparse.ArgumentParser) -> None:
    add_render_options(render)
    render.set_defaults(run=run_render)


def run_render(options: argparse.Namespace) -> None:
    source = _read_source(options)
    check_options(options)
    store = _open_store(options)
    settings = read_settings(options, source, store)
    start = read_start(options, store, settings.plan, settings.size)
    pipeline = _load(options, source, start.plan)
    run = _film_run(options, source, settings, store, start, pipeline)
    if options.dry_run:
        _report_estimate(run)
        return
    film = _render(run)
    if options.contact_sheet is not None:
        _save_contact_sheet(options, film, start.plan)


def _read_source(options: argparse.Namespace) -> Source:
    """Read the timeline, so that its errors are reported before anything else."""
    source = read_source(options.timeline, continues=options.extend is not None)
    source.plan(options.duration, options.chunk)
    options.seed = source.seed if options.seed is None else options.seed
    return source


def _open_store(options: argparse.Namespace) -> TakeStore | None:
    from ..takes import TakeStore

    if options.takes is None:
        return None
    return TakeStore(options.takes, options.takes_limit, create=not options.dry_run)


def _load(options: argparse.Namespace, source: Source, plan: Plan) -> Pipeline:
    """Load the models; print the plan, and the parts of its prompts that the text encoder cuts off."""
    from ..run.pipeline import Pipeline

    source.note_model(Path(options.model).name)
    pipeline = Pipeline.load(**file_options(options))
    print("\n".join([plan.describe(), *hint_lines(pipeline.text.cuts(plan.texts))]), flush=True)
    return pipeline


def _film_run(options, source: Source, settings: RenderSettings, store, start, pipeline: Pipeline) -> FilmRun:
    from ..run.render import film_run
    from ..run.speed import SpeedBook

    return film_run(
        pipeline,
        start.plan,
        options.output or "film.mp4",  # a dry run checks only the folder
        stream=settings.stream,
        size=settings.size,
        seed=options.seed,
        timeline=source.text if options.extend is None else plan_text(start.plan),
        start=start.begins_with,
        model_name=None if options.no_metadata else Path(options.model).name,
        store=store,
        book=SpeedBook(),
    )


def _report_estimate(run: FilmRun) -> None:
    """Print the estimate. Raises what the render would raise before it begins; writes nothing."""
    from ..takes import reuse

    if run.store is not None:
        run.store.check_writable()
    expected = run.estimate()
    if run.take is not None:
        print(reuse(run.take))
    print(expected.describe(), flush=True)
    expected.check()
    print("dry run: it can run; nothing was rendered or written")


def _render(run: FilmRun) -> Path:
    """Render with a progress bar. Return the film's path: another one if a player has the requested file open."""
    from tqdm import tqdm

    from ..film.video import FilmInUse
    from ..run.render import render_film
    from .progress import ProgressBar

    began, path = time.perf_counter(), run.path
    with tqdm(total=run.request.plan.frames, unit="frame", file=sys.stderr) as bar:
        run.observer = ProgressBar(bar)
        try:
            render_film(run)
        except FilmInUse as error:
            print(f"note: {error}", file=sys.stderr)
            path = error.kept
        except KeyboardInterrupt as stop:
            if run.frames:
                print(f"{path} holds the first {count(run.frames, 'frame')}", file=sys.stderr)
            elif stop.__cause__ is not None:  # why the chunks so far are not in a film there
                print(f"note: {stop.__cause__}", file=sys.stderr)
            raise
        frames = int(bar.n)
    seconds, (width, height) = time.perf_counter() - began, run.request.size
    speed = f" ({frames / seconds:.1f} frames/s)" if run.temporary else ""  # stored frames would count as rendered
    print(f"{path}: {count(frames, 'frame')}, {width} x {height}, in {seconds:.1f} s{speed}")
    return path


def _save_contact_sheet(options: argparse.Namespace, film: Path, plan: Plan) -> None:
    from ..film.contact_sheet import contact_sheet

    prompts = None if options.no_metadata else [(segment.start_seconds, segment.text) for segment in plan.segments]
    stills = contact_sheet(film, options.contact_sheet, prompts=prompts)
    print(f"{options.contact_sheet}: {count(stills, 'picture')}")
