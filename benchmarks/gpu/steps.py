"""The steps in the order in which they run: what each needs besides PyTorch, and its time limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A part of the benchmark, run in a separate process.

    Attributes:
        name: of the step and of its JSON file.
        part: 1 or 2; each ends within ten minutes, and both within thirteen.
        limit: seconds, after which the step is ended.
        module: in this package, with a function `run(setting, notes)`.
        arguments: of that function, after the first two.
        needs: imported modules that a machine may lack.
        comfyui: whether it runs a ComfyUI.
    """

    name: str
    part: int
    limit: float
    module: str
    arguments: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    comfyui: bool = False


STEPS = (
    Step("cuda_tests", 1, 70, "cuda_tests", needs=("pytest", "pluggy", "iniconfig", "av", "PIL")),
    Step("recordings", 1, 60, "recordings"),
    Step("ceilings", 1, 50, "ceilings"),
    Step("speed_bf16", 1, 110, "speed", ("bf16",), needs=("av",)),
    Step("speed_int8", 1, 110, "speed", ("int8",), needs=("av",)),
    Step("plans", 2, 120, "plans", needs=("av",)),
    Step(
        "server",
        2,
        240,
        "server",
        comfyui=True,
        needs=(
            "av",
            "PIL",
            "aiohttp",
            "yarl",
            "multidict",
            "frozenlist",
            "propcache",
            "aiosignal",
            "aiohappyeyeballs",
            "attr",
            "einops",
            "psutil",
            "trampoline",
            "websocket",
        ),
    ),
)
PARTS = (1, 2)


def limit_of(steps: Sequence[Step]) -> float:
    """Return the seconds for all of these."""
    return sum(one.limit for one in steps)


def step(name: str) -> Step:
    """Return a step by its name; ValueError for an unknown one."""
    for one in STEPS:
        if one.name == name:
            return one
    raise ValueError(f"there is no step {name!r}: allowed are {', '.join(one.name for one in STEPS)}")
