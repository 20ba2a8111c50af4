"""Score the pocket model with the judge: `python -m longlive_core.pocket.score --out FILE.json`.

Two tables, both over combinations that training excludes; every film has its own seed:

- prompts: films of 10 s. A film obeys if most of its three-second windows show the requested colour, setting and action
  at the same time.
- switches: the prompt changes after 4 s (recache). A switch obeys if the film shows from 1.5 s after it what the new
  prompt requests, and is smooth if the subject does not jump around the boundary.

Shapes: T frames.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np

from ..run.pipeline import Pipeline
from ..toybox import world
from ..toybox.captions import caption
from ..toybox.obedience import FIELDS, judge_switch, obeys, read_windows, shows
from .clip_pool import boundary
from .sampling import render_prompts

log = logging.getLogger(__name__)

PROMPT_CHUNKS = 14  # 165 frames, 10.3 s
SWITCH_CHUNK, SWITCH_CHUNKS = 6, 12  # the prompt changes after 69 frames, 4.3 s
BATCH = 10


def score_prompts(pipeline: Pipeline, count: int, seed: int) -> dict:
    """Score films of single prompts: shares of films that obey, and of windows that show each field."""
    rng, obeyed, fields = np.random.default_rng(seed), 0, dict.fromkeys((*FIELDS, "shape"), 0.0)
    actions: dict[str, list[bool]] = {}
    for first in range(0, count, BATCH):
        seeds = list(range(first, min(first + BATCH, count)))
        requests = [world.random_attributes(rng, held_out=True) for _ in seeds]
        texts = [(0, [caption(requested, rng) for requested in requests])]
        films = render_prompts(pipeline, texts, PROMPT_CHUNKS, [seed + number for number in seeds])
        for requested, film in zip(requests, films, strict=True):
            readings = read_windows(film)
            right = obeys(readings, requested)
            obeyed += right
            actions.setdefault(requested.action, []).append(right)
            for field in fields:
                fields[field] += sum(shows(r, requested, (field,)) for r in readings) / len(readings)
        log.info("prompts: %d of %d films obey", obeyed, seeds[-1] + 1)
    return {
        "films": count,
        "obey": obeyed / count,
        "windows": {f: v / count for f, v in fields.items()},
        "obey_by_action": {a: sum(v) / len(v) for a, v in sorted(actions.items())},
    }


def score_switches(pipeline: Pipeline, count: int, seed: int) -> dict:
    """Score films in which the prompt changes once: shares that obey, are smooth, and both."""
    rng, at = np.random.default_rng(seed), boundary(SWITCH_CHUNK)
    obeyed = smooth = both = 0
    for first in range(0, count, BATCH):
        seeds = list(range(first, min(first + BATCH, count)))
        before = [world.random_attributes(rng, held_out=True) for _ in seeds]
        after = [world.changed_attributes(attributes, rng, held_out=True) for attributes in before]
        texts = [(0, [caption(a, rng) for a in before]), (SWITCH_CHUNK, [caption(a, rng) for a in after])]
        films = render_prompts(pipeline, texts, SWITCH_CHUNKS, [seed + number for number in seeds])
        for requested, film in zip(after, films, strict=True):
            reading = judge_switch(film, at)
            right, steady = shows(reading.after, requested), reading.smooth
            obeyed, smooth, both = obeyed + right, smooth + steady, both + (right and steady)
        log.info("switches: %d obey, %d are smooth, %d both, of %d", obeyed, smooth, both, seeds[-1] + 1)
    return {"switches": count, "obey": obeyed / count, "smooth": smooth / count, "both": both / count}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Score the pocket model with the judge.")
    parser.add_argument("--prompts", type=int, default=200, help="films of single prompts")
    parser.add_argument("--switches", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    pipeline = Pipeline.load("pocket")
    result = {"seed": options.seed}
    if options.prompts:
        result["prompts"] = score_prompts(pipeline, options.prompts, options.seed)
    if options.switches:
        result["switches"] = score_switches(pipeline, options.switches, options.seed)
    text = json.dumps(result, indent=2)
    sys.stdout.write(text + "\n")
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
