"""`render --start`, `--extend` and `--branch-at`: what a film begins with."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..takes import StartChunks, TakeStore
    from ..timeline import Plan


@dataclass(frozen=True)
class FilmStart:
    """The plan of the whole film, and what it begins with: a clip [T, H, W, 3], stored chunks, or nothing."""

    plan: Plan
    begins_with: StartChunks | Tensor | None = None


def add_start(render: argparse.ArgumentParser) -> None:
    add = render.add_argument_group("beginning (needs --takes)").add_argument
    add(
        "--start",
        metavar="FILE",
        help="a picture or a video that the film begins with; describe it in the first prompt",
    )
    add(
        "--extend",
        metavar="ID",
        help="a take of the folder that the film extends; the timeline's times count from its end",
    )
    add(
        "--branch-at",
        metavar="PLACE",
        help="extend the take from this place instead of its end: a time (12s, 0:12), 'segment 2' (from before it), "
        "or a number of chunks (16c, or 16)",
    )


def read_start(options: argparse.Namespace, store: TakeStore | None, plan: Plan, size: tuple[int, int]) -> FilmStart:
    """Read what the arguments name. Raises ValueError if they contradict each other, or name nothing that exists."""
    if options.branch_at is not None and options.extend is None:
        raise ValueError("--branch-at is for a take that is extended: give --extend ID as well")
    if options.start is None and options.extend is None:
        return FilmStart(plan)
    if options.start is not None and options.extend is not None:
        raise ValueError("a film begins with one thing: give --start or --extend, not both")
    if store is None:
        raise ValueError("what a film begins with is kept in a folder of takes: give --takes FOLDER as well")
    from ..film.clips import read_clip
    from ..film.start_inputs import check_given
    from ..takes import clip_chunks, extended

    if options.extend is not None:
        whole, given = extended(store, options.extend, _branch(options, store), plan, size)
        return FilmStart(whole, given)
    if options.dry_run:
        raise ValueError(
            "--dry-run writes nothing, but a film that begins with a file has to store that first: leave "
            "one of them out"
        )
    clip = read_clip(options.start, size, plan.fps, _note)
    check_given(clip_chunks(len(clip), plan.chunk), plan.chunks)
    return FilmStart(plan, clip)


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _branch(options: argparse.Namespace, store: TakeStore) -> int | None:
    """Return how many chunks of the take to extend; None: all. Prints where they end, since a time snaps."""
    from ..takes import find_branch_point
    from ..takes.labels import branch_report

    if options.branch_at is None:
        return None
    take = store.read_manifest(options.extend)
    place = find_branch_point(take, options.branch_at, store.rendered(take))
    print(branch_report(take, place).splitlines()[0], file=sys.stderr)
    return place.chunks
