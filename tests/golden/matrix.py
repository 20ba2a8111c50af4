"""The settings that are filmed. A new one is added, none is changed: its expectations would be others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STORY = "0s A ball.\n1.5s A star.\n3s A box. {cut}\n4.5s A box, A star. {keep}"
LATE = "0s A ball.\n2.25s A star."  # a prompt that comes when the window has left the beginning behind
SHORT = "0s A ball.\n1.5s A star."

BASE = {
    "width": 48,
    "height": 32,
    "steps": 2,
    "shift": 5.0,
    "window": 6,
    "sink": 3,
    "chunk": 3,
    "sink_policy": "held",
    "positions": "absolute",
    "seed": 3,
}


@dataclass(frozen=True)
class Film:
    """A timeline with its settings.

    Attributes:
        text: the timeline.
        duration: seconds.
        settings: those that differ from BASE.
        flags: for the command line alone; names of `models.write_models` stand for their files.
        ways: by which it is rendered: "film" and "stored" on the command line, "nodes" in ComfyUI.
        numbers: whether latents and frames are compared; else names alone.
    """

    text: str
    duration: float
    settings: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    ways: tuple[str, ...] = ("stored",)
    numbers: bool = True

    @property
    def run(self) -> dict[str, Any]:
        return {**BASE, **self.settings}


# Of these tags and manifests stand there in full; of the others what they are called, and a hash of the rest.
IN_FULL = ("every transition", "a blend", "seeds of prompts", "odd letters", "cancelled")
EVERY = ("film", "stored", "nodes")
COMMANDS = ("film", "stored")

FILMS: dict[str, Film] = {
    "every transition": Film(STORY, 6.0, ways=EVERY),
    "held sink": Film(LATE, 3.5),
    "refreshed sink": Film(LATE, 3.5, {"sink_policy": "refreshed"}, ways=("stored", "nodes")),
    "relative positions": Film(LATE, 3.5, {"positions": "relative"}),
    "relative, refreshed": Film(LATE, 3.5, {"positions": "relative", "sink_policy": "refreshed"}),
    "relative, kept": Film(f"{LATE} {{keep}}", 3.5, {"positions": "relative"}),
    "the whole past": Film(SHORT, 2.0, {"window": -1, "sink": 0}, ways=("stored", "nodes")),
    "a window without a sink": Film(SHORT, 2.0, {"sink": 0}),
    "a long window": Film(SHORT, 2.0, {"window": 12}),
    "frame by frame": Film("0s A ball.\n1s A star.", 1.75, {"chunk": 1, "window": 4, "sink": 1}, ways=EVERY),
    "four steps": Film(SHORT, 2.0, {"steps": 4}),
    "one step": Film(SHORT, 2.0, {"steps": 1}),
    "another shift": Film(SHORT, 2.0, {"shift": 3.5}),
    "wide": Film(SHORT, 2.0, {"width": 80}),
    "tall": Film(SHORT, 2.0, {"width": 32, "height": 64}),
    "the largest seed": Film(SHORT, 2.0, {"seed": 2**64 - 1}, ways=("stored", "nodes")),
    "seeds of prompts": Film(
        "0s A ball. {seed=1}\n1.5s A star. {seed=2, cut}\n2.25s A box.", 3.0, ways=("stored", "nodes")
    ),
    "an anchor": Film(f"* In snow.\n{SHORT}", 2.0, ways=("stored", "nodes")),
    "a blend": Film("0s A ball.\n1.5s A star. {blend=1.5s}\n3.75s A box.", 4.0, ways=("stored", "nodes")),
    "brackets": Film("[0s-1.5s: A ball.]\n[1.5s-2s: A star.]", 2.0),
    "split evenly": Film("A ball.\nA star.\nA box.", 3.0, ways=("stored", "nodes")),
    "chunks as times": Film("0c A ball.\n2c A star.", 2.0),
    "odd letters": Film('0s Ein "roter" Ball \\ \u00fcber B\u00e4ume \u7d05\n1.5s \U0001f43c A star.', 2.0, ways=EVERY),
    "without metadata": Film(SHORT, 2.0, flags=("--no-metadata",), ways=COMMANDS),
    "another preset": Film(SHORT, 2.0, flags=("--preset", "self-forcing")),
    "bfloat16": Film(SHORT, 2.0, flags=("--dtype", "bf16"), numbers=False),
    "a LoRA": Film(SHORT, 2.0, flags=("--lora", "lora")),
    "a LoRA at half strength": Film(
        SHORT, 2.0, flags=("--lora", "lora", "--lora-strength", "0.5", "--lora-alpha", "4")
    ),
    "INT8": Film(SHORT, 2.0, flags=("--model", "int8")),
    "from a picture": Film(SHORT, 2.0, flags=("--start", "picture")),
}
