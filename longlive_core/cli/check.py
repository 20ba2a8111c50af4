"""`check`: what the downloaded files are, and what is wrong with them."""

from __future__ import annotations

import argparse
import functools

from .model_files import add_files, file_options

FAULT = 1  # exit code


def add_check(check: argparse.ArgumentParser) -> None:
    add_files(check)
    check.add_argument(
        "--film",
        nargs="?",
        const="longlive-check",
        metavar="FOLDER",
        help="also render a short story, and leave film, pictures and a report to paste into an issue there "
        "(default: longlive-check)",
    )
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    from ..run.check import check

    files, lines = file_options(options), []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    if options.film is None:
        return 0 if check(**files, say=say) else FAULT
    from ..run.check_film import film_report, require_files

    require_files(options.model, options.text_encoder, options.vae)
    in_order = check(**files, say=say)
    film_report(options.film, files, tuple(lines), in_order, functools.partial(print, flush=True))
    return 0 if in_order else FAULT
