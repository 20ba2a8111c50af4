"""`replay`: a recorded rollout run again, for comparison."""

from __future__ import annotations

import argparse


def add_replay(replay: argparse.ArgumentParser) -> None:
    replay.add_argument("source", metavar="IN.safetensors")
    replay.add_argument("target", metavar="OUT.safetensors")
    replay.set_defaults(run=run_replay)


def run_replay(options: argparse.Namespace) -> None:
    from ..run.replay import replay

    for name, difference in replay(options.source, options.target).items():
        print(f"{name}: largest difference from the recording {difference:.3g}")
