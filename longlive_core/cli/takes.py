"""`python -m longlive_core takes`: list, show, verify, remove and join the takes of a folder."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from ..words.visible import make_visible
from ..words.wording import count, shorten
from .verify import add_verify, verify_store

if TYPE_CHECKING:
    from ..takes.errors import ChunkDamaged


def add_takes(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command; torch is imported only when it runs."""
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--takes", required=True, metavar="FOLDER", help="the folder passed to render --takes")
    actions = parser.add_subparsers(required=True, metavar="ACTION", parser_class=type(parser))
    for name, run, what in (
        ("list", _list, "one line per take, the newest first"),
        ("show", _show, "timeline, settings and rendered chunks"),
        ("remove", _remove, "remove a take and the chunks no other take uses"),
        ("verify", _verify, "read every file and compare it with its checksum"),
        ("join", _join, "write the rendered chunks as one MP4, without encoding again"),
    ):
        action = actions.add_parser(name, help=what, parents=[folder])
        if run is _verify:
            add_verify(action)
        elif run is not _list:
            action.add_argument("take", metavar="ID")
        if run is _join:
            action.add_argument("-o", "--output", required=True, metavar="FILM.mp4")
            action.add_argument("--no-metadata", action="store_true", help="no subtitles and no chapters")
        action.set_defaults(run=run)


def _store(options: argparse.Namespace):
    from pathlib import Path

    from ..takes import TakeError, TakeStore

    if not Path(options.takes).is_dir():
        raise TakeError(f"there is no folder '{options.takes}'; give the folder that was passed to render --takes")
    return TakeStore(options.takes, create=False)  # reading must work on a full or read-only disk


def _list(options: argparse.Namespace) -> None:
    from ..takes import TakeError
    from ..takes.labels import take_length

    store = _store(options)
    stored = store.stored_keys()
    for take in store.takes():
        if isinstance(take, TakeError):
            print(f"{take.take}  {make_visible(str(take))}")
            continue
        width, height = take.origin["size"]
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(take.created))
        print(
            f"{take.id}  {created}  {take_length(take, store.rendered(take, stored))}  "
            f"{sum(key in stored for key in take.keys)}/{count(len(take.keys), 'chunk')}  {width}x{height}  "
            f"seed {take.origin['seed']}  {shorten(take.segments[0]['text'], 60)}"
        )


def _show(options: argparse.Namespace) -> None:
    store = _store(options)
    take = store.read_manifest(options.take)
    done = store.done(take)
    complete = "" if done < len(take.keys) else " (complete)"
    print(f"take {take.id}: {done} of {count(len(take.keys), 'chunk')} rendered{complete}")
    print(f"film: {store.take_folder(take.id) / 'film.mp4'}")
    for name, value in take.origin.items():
        print(f"{name}: {make_visible(str(value))}")
    print(f"encoding: {take.encoding}")
    print(f"timeline:\n{make_visible(take.timeline, lines=True)}")


def _remove(options: argparse.Namespace) -> None:
    from ..words.quantities import gigabytes

    print(f"removed {options.take}, {gigabytes(_store(options).remove(options.take))} freed")


def _verify(options: argparse.Namespace) -> int:
    return verify_store(_store(options), options.take, options.repair)


def _join(options: argparse.Namespace) -> None:
    from ..film.video import FilmInUse, check_writable
    from ..takes.take import join

    store = _store(options)
    take = store.read_manifest(options.take)
    check_writable(options.output)
    try:
        frames = join(store, take, options.output, subtitles=not options.no_metadata, damaged=_report_damage)
        print(f"{options.output}: {count(frames, 'frame')}")
    except FilmInUse as error:
        print(f"note: {error}", file=sys.stderr)


def _report_damage(damage: ChunkDamaged) -> None:
    print(f"note: {damage}. The film ends before it", file=sys.stderr)
