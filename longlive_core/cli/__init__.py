"""The command line, one file for each command: render, check, convert, list takes, evaluate, train.

    python -m longlive_core render "0s A panda walks" -o film.mp4 --duration 20
    python -m longlive_core check --model longlive_base.pt --lora lora.pt

Exit codes: 0 done; 1 `check` or `takes verify` found a fault, or `follow-ups` has none for a
prompt; 2 an error that the user can correct (one line on stderr); 130 stopped by Ctrl-C. PyTorch is imported by the
commands, not here, so that `--help` and errors in a timeline appear at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..words.visible import make_visible
from .check import add_check
from .convert import add_convert
from .evaluate import add_eval
from .follow_ups import add_follow_ups
from .render import add_render
from .replay import add_replay
from .takes import add_takes
from .train import add_train
from .train_clips import add_train_clips

USER_ERROR, INTERRUPTED = 2, 130
# Name, help, and what adds the arguments.
COMMANDS = (
    ("render", "render a timeline to an MP4", add_render),
    ("check", "inspect model files, report what is wrong, run two chunks", add_check),
    ("replay", "run a recorded rollout again, for comparison", add_replay),
    ("convert", "rewrite a checkpoint for ComfyUI's own loaders", add_convert),
    ("takes", "list, show, remove or join the takes of a folder", add_takes),
    ("eval", "measure films: adherence, consistency, continuity, drift", add_eval),
    ("train", "distil or tune a model with LongLive's method (docs/training.md)", add_train),
    ("train-clips", "let the teacher render clips for the causal start", add_train_clips),
    ("follow-ups", "let an instruction model write follow-up prompts", add_follow_ups),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"{self.prog}: {message} (see --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code. Errors that the user can correct are one line on stderr."""
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):  # shows '?' for letters that a console cannot encode, not a traceback
            output.reconfigure(errors="replace")
    options = _build_parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        return _report(str(error))
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's; it is not imported here
            raise
        return _report(
            f"not enough memory ({error}); end other programs, ask for a smaller picture or batch, or choose "
            "--device cpu"
        )
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _report(message: str) -> int:
    print(f"error: {make_visible(' '.join(message.split()))}", file=sys.stderr)
    return USER_ERROR


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m longlive_core", description="LongLive: films from a timeline of prompts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, help_text, add_arguments in COMMANDS:
        add_arguments(commands.add_parser(name, help=help_text))
    return parser


if __name__ == "__main__":
    sys.exit(main())
