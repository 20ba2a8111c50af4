"""Cost of the longest films apart from rendering: parsing, planning, computing keys, and typing a prompt.

    python -m benchmarks.long_films --json docs/results/long_films.json

Seconds and milliseconds of processor time of one thread; nothing is rendered.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import heading, write_figures
from longlive_core.config import StreamConfig
from longlive_core.film.video import Encoding
from longlive_core.takes import Live, Origin, TakeStore, VaeIdentity, plan_take
from longlive_core.takes.versions import TakeVersions
from longlive_core.timeline import MAX_CHUNKS, MAX_SEGMENTS, NewSegment, Plan, parse, plan_text, with_segments

PROMPT = "A red panda number {} walks through deep snow in soft morning light and looks into the camera."
STREAM = StreamConfig(positions="relative")
OLD = Origin("earlier", "text", "bfloat16", STREAM, (832, 480), 0)
ORIGIN = Origin("model", "text", "bfloat16", STREAM, (832, 480), 0, (OLD,))
VAE = VaeIdentity("vae", "bfloat16", 96, aliases=(VaeIdentity("earlier", "bfloat16", 96),))
TEN_HOURS, TYPED = 48_000, 40


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return round(time.process_time() - began, 2)


def longest() -> dict[str, float]:
    """Measure the largest number of prompts, and of chunks."""
    text = "\n".join(f"{8 * number}s {PROMPT.format(number)}" for number in range(MAX_SEGMENTS))
    single, planned = parse("0s a").plan(None, 30, 1, chunks=MAX_CHUNKS), parse("0s a").plan(22 * 3600)
    with tempfile.TemporaryDirectory() as folder:
        store = TakeStore(folder)

        def take(plan: Plan):
            return plan_take(store, "", plan, ORIGIN, Encoding(832, 480), VAE)

        return {
            f"read {MAX_SEGMENTS} prompts": seconds(lambda: parse(text)),
            f"plan {MAX_SEGMENTS} prompts": seconds(lambda: parse(text).plan(None)),
            f"write {MAX_SEGMENTS} prompts": seconds(lambda: plan_text(parse(text).plan(None))),
            f"name {MAX_CHUNKS} chunks, two names of a model": seconds(lambda: take(single)),
            f"name 22 hours, {planned.chunks} chunks": seconds(lambda: take(planned)),
        }


def typing(prompts: int, endless: bool) -> dict[str, float]:
    """Measure the milliseconds of a prompt typed at ten hours, after this many earlier prompts."""
    now = [0.0]
    plan = parse("0s a").plan(None, chunks=TEN_HOURS)
    plan = with_segments(
        plan,
        [NewSegment(TEN_HOURS - TYPED - 10 - prompts + number, PROMPT.format(number)) for number in range(prompts)],
    )
    with tempfile.TemporaryDirectory() as folder:
        take = plan_take(TakeStore(folder), "", plan, ORIGIN, Encoding(832, 480), VAE)
        live = Live(plan, endless, clock=lambda: now[0])
        changes = TakeVersions(take, live, lambda take: None)
        taken, followed, written = [], [], []
        for chunk in range(TEN_HOURS - TYPED, TEN_HOURS):
            now[0] += 1000.0
            live.plan_for(chunk - 1)
            taken.append(_milliseconds(lambda chunk=chunk: live.prompt(PROMPT.format(-chunk))))
            new = live.plan_for(chunk)
            changes._seldom._again = float("inf")
            followed.append(_milliseconds(lambda new=new: (changes.follow(new), new.prompts)))
            if chunk % 8 == 0:
                written.append(_milliseconds(changes.write))
        changes.close()
        status = _milliseconds(lambda: live.status())
    median = statistics.median
    return {
        "take the prompt": round(median(taken), 2),
        "follow it": round(median(followed), 2),
        "write the manifest": round(median(written), 1),
        "status": round(status, 2),
    }


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    figures = {
        **heading("python -m benchmarks.long_films"),
        "seconds": longest(),
        "milliseconds a prompt at 10 hours": {
            f"{prompts} prompts before, {'without end' if endless else 'of a planned film'}": typing(prompts, endless)
            for prompts, endless in ((0, False), (100, True), (1000, True), (9900, True))
        },
    }
    write_figures(figures, options.json)


if __name__ == "__main__":
    main()
