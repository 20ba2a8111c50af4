"""Films whose chunk keys must never change, and the keys that they had when takes were first stored.

`python -m tests.key_plans` computes them and prints what `key_plans.json` holds; it was written once and stays.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from longlive_core.config import StreamConfig
from longlive_core.takes.keys import Origin, ShotKeys, StartChunks, shots_of
from longlive_core.timeline import Plan, parse

FILE = Path(__file__).with_suffix(".json")
STREAM = StreamConfig()
ORIGIN = Origin("model", "text", "bfloat16", STREAM, (832, 480), 7)
STORY = "0s A red ball.\n2s A blue star. {keep}\n4s A green box. {cut}\n6s The box sinks. {blend=1.5s}\n9s It is gone."
LATENTS = StartChunks(("0" * 32, "1" * 32, "2" * 32))
OWN = StartChunks(tuple(f"{n:032x}" for n in range(5)), ORIGIN.as_json(), 2, 16)
OTHER = StartChunks(tuple(f"{n:032x}" for n in range(5)), {**ORIGIN.as_json(), "model": "another"}, 0, 16)
ODD = '0s Ein "roter" Ball \\ \u00fcber B\u00e4ume \u7d05\u3044\u7403\n3s \U0001f43c walks {seed=18446744073709551615}'


def _plan(text: str, seconds: float | None = None, fps: float = 16, chunk: int = 3) -> Plan:
    return parse(text).plan(seconds, fps, chunk)


# name -> (plan, origin, what it begins with)
FILMS: dict[str, tuple[Plan, Origin, StartChunks]] = {
    "one prompt": (_plan("0s A red ball."), ORIGIN, StartChunks()),
    "every transition": (_plan(STORY), ORIGIN, StartChunks()),
    "at another rate": (_plan(STORY, 14.0, 24), ORIGIN, StartChunks()),
    "frame by frame": (
        _plan(STORY, 14.0, 16, 1),
        Origin("model", "text", "float32", StreamConfig(chunk=1), (832, 480), 7),
        StartChunks(),
    ),
    "an anchor": (_plan(f"* A meadow.\n{STORY}"), ORIGIN, StartChunks()),
    "seeds": (_plan("0s a {seed=1}\n3s b {seed=2, cut}\n6s c"), ORIGIN, StartChunks()),
    "odd letters": (_plan(ODD, 5.0), ORIGIN, StartChunks()),
    "cuts only": (
        _plan("\n".join(f"{n}s shot {n}{' {cut}' if n else ''}" for n in range(0, 20, 2))),
        ORIGIN,
        StartChunks(),
    ),
    "ends in a blend": (_plan(STORY).resized(11), ORIGIN, StartChunks()),
    "begins with latents": (_plan(STORY), ORIGIN, LATENTS),
    "follows a take of its own": (_plan(STORY), ORIGIN, OWN),
    "follows a take of another run": (_plan(STORY), ORIGIN, OTHER),
    "other settings": (
        _plan(STORY),
        Origin(
            "m",
            "t",
            "float16",
            StreamConfig(
                window=-1, sink=0, shift=3.5, positions="relative", denoising_steps=StreamConfig.even_steps(2)
            ),
            (128, 80),
            2**64 - 1,
        ),
        StartChunks(),
    ),
    "an hour": (_plan("0s a\n30s b\n1800s c {keep}", 3600.0), ORIGIN, StartChunks()),
}


def summary(shots: list[ShotKeys]) -> dict:
    """The shots' starts, the film's first and last key, and a hash of all of them."""
    keys = [key for shot in shots for key in shot.keys]
    return {
        "starts": [shot.start for shot in shots],
        "chunks": len(keys),
        "first": keys[0],
        "last": keys[-1],
        "all": hashlib.sha256("\n".join(keys).encode()).hexdigest(),
    }


def computed() -> dict[str, dict]:
    return {name: summary(shots_of(*film)) for name, film in FILMS.items()}


if __name__ == "__main__":
    print(json.dumps(computed(), indent=1))
