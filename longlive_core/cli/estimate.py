"""`render --dry-run`: what a render would do and need. And how its `--takes-limit` is read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..words.quantities import parse_size

if TYPE_CHECKING:
    from ..config import StreamConfig
    from ..run.pipeline import Pipeline
    from ..takes import StartChunks, TakeStore
    from ..timeline import Plan


def add_estimate(render: argparse.ArgumentParser) -> None:
    add = render.add_argument
    add(
        "--dry-run",
        action="store_true",
        help="only say what would be made, and what that needs of time, memory and disk; exit code 0 if it can run",
    )
    add(
        "--takes-limit",
        type=parse_size,
        metavar="SIZE",
        help="of the folder of --takes, such as 20GB: to keep to it, the takes unused for longest are removed",
    )


def check_arguments(options: argparse.Namespace) -> None:
    """ValueError for what `render` cannot go without, or cannot use."""
    if options.output is None and not options.dry_run:
        raise ValueError("where is the film to go? Give -o FILM.mp4 (only --dry-run goes without)")
    if options.takes_limit is not None and options.takes is None:
        raise ValueError("--takes-limit is for the folder of --takes FOLDER; give both, or neither")


def dry_run(
    pipeline: Pipeline,
    plan: Plan,
    options: argparse.Namespace,
    store: TakeStore | None,
    timeline: str,
    stream: StreamConfig,
    size: tuple[int, int],
    given: StartChunks | None = None,
) -> None:
    """Print the estimate; raises what the render would raise before it begins. Writes nothing."""
    from ..run.render import estimate_render, plan_stored
    from ..run.speed import SpeedBook
    from ..takes import reuse

    take = None
    if store is not None:
        store.check_writable()
        take = plan_stored(
            pipeline, plan, store, timeline=timeline, stream=stream, seed=options.seed, size=size, given=given
        )
        print(reuse(take))
    film = options.output or "film.mp4"  # of which only the folder counts
    expected = estimate_render(pipeline, plan, film, stream=stream, size=size, book=SpeedBook(), take=take)
    print(expected.describe(), flush=True)
    expected.check()
    print("dry run: it can run; nothing was rendered or written")
