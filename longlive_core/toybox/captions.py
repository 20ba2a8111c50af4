"""Captions of toybox films: the sentences that serve as prompts, and the attributes that a sentence requests.

`caption` writes attributes as a sentence in one of several wordings; `attributes_of` parses a sentence. The
tokenizer's vocabulary consists of the words here.
"""

import re
from collections.abc import Sequence

import numpy as np

from .world import TABLES, Attributes

COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "amber"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "white": ("white", "ivory"),
}

SHAPES: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "sphere", "disc"),
    "square": ("square", "box", "cube"),
    "triangle": ("triangle", "pyramid"),
    "star": ("star",),
}

# (finite form, form in -ing) each
ACTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "left": (
        ("moves left", "moving left"),
        ("slides to the left", "sliding to the left"),
        ("glides left", "gliding left"),
        ("travels to the left", "travelling to the left"),
    ),
    "right": (
        ("moves right", "moving right"),
        ("slides to the right", "sliding to the right"),
        ("glides right", "gliding right"),
        ("travels to the right", "travelling to the right"),
    ),
    "up": (
        ("moves up", "moving up"),
        ("rises", "rising"),
        ("floats upwards", "floating upwards"),
        ("glides up", "gliding up"),
    ),
    "down": (
        ("moves down", "moving down"),
        ("sinks", "sinking"),
        ("floats downwards", "floating downwards"),
        ("glides down", "gliding down"),
    ),
    "bounce": (
        ("bounces", "bouncing"),
        ("bounces up and down", "bouncing up and down"),
        ("hops", "hopping"),
        ("jumps up and down", "jumping up and down"),
    ),
    "circle": (
        ("circles", "circling"),
        ("moves in a circle", "moving in a circle"),
        ("goes around in circles", "going around in circles"),
        ("orbits", "orbiting"),
    ),
    "spin": (
        ("spins", "spinning"),
        ("spins in place", "spinning in place"),
        ("rotates", "rotating"),
        ("turns around itself", "turning around itself"),
    ),
    "pulse": (
        ("grows and shrinks", "growing and shrinking"),
        ("pulses", "pulsing"),
        ("gets bigger and smaller", "getting bigger and smaller"),
        ("swells and shrinks", "swelling and shrinking"),
    ),
    "rest": (
        ("rests", "resting"),
        ("stays still", "staying still"),
        ("stands still", "standing still"),
        ("does not move", "not moving"),
    ),
}

SETTINGS: dict[str, tuple[str, ...]] = {
    "meadow": ("on a meadow", "in a green meadow", "on the grass", "in a grassy field"),
    "sea": ("on the sea", "on the blue sea", "on the ocean", "on the waves"),
    "desert": ("in the desert", "on the sand", "in a sandy desert", "on yellow sand dunes"),
    "night": ("at night", "in the night sky", "under the starry night sky", "in the dark night"),
    "wall": ("in front of a brick wall", "by a wall of bricks", "before a grey brick wall", "in front of a wall"),
    "snow": ("in the snow", "on a snowy field", "on white snow", "in a snowy land"),
}

TEMPLATES: tuple[str, ...] = (
    "A {colour} {shape} {acts} {setting}.",
    "A {colour} {shape} is {acting} {setting}.",
    "A {colour} {shape} {acting} {setting}",
    "The {colour} {shape} {acts} {setting}.",
    "The {colour} {shape} {setting} {acts}.",
    "{setting}, a {colour} {shape} {acts}.",
    "{setting} there is a {colour} {shape}. It {acts}.",
    "A video of a {colour} {shape} that {acts} {setting}.",
    "There is a {shape} {setting}. It is {colour} and it {acts}.",
    "{colour} {shape}, {acting}, {setting}",
)

WORDS = {"colour": COLOURS, "shape": SHAPES, "action": ACTIONS, "setting": SETTINGS}
for _field, _table in TABLES.items():
    assert list(WORDS[_field]) == list(_table), f"captions and world disagree about {_field}"


def caption(attributes: Attributes, rng: np.random.Generator | None = None) -> str:
    """Write a sentence that requests `attributes`: a random wording, or the plainest one without `rng`."""

    def pick(options: Sequence):
        return options[0] if rng is None else options[rng.integers(len(options))]

    acts, acting = pick(ACTIONS[attributes.action])
    article_free = pick(TEMPLATES).format(
        colour=pick(COLOURS[attributes.colour]),
        shape=pick(SHAPES[attributes.shape]),
        acts=acts,
        acting=acting,
        setting=pick(SETTINGS[attributes.setting]),
    )
    text = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", article_free)
    return text[0].upper() + text[1:]


def _find(text: str, options: dict[str, Sequence[str]]) -> tuple[str | None, str]:
    """Return the name of the longest option that occurs in `text` as whole words, and the text without it."""
    matches = [
        (len(words), name, words)
        for name, all_words in options.items()
        for words in all_words
        if re.search(rf"\b{re.escape(words)}\b", text)
    ]
    if not matches:
        return None, text
    _, name, words = max(matches)
    return name, re.sub(rf"\b{re.escape(words)}\b", " ", text)


def attributes_of(text: str) -> Attributes:
    """Parse a sentence. ValueError if it names no colour, shape, action or setting of the toybox."""
    rest, attributes = text.lower(), {}
    actions = {name: [form for pair in forms for form in pair] for name, forms in ACTIONS.items()}
    # Settings first: they may contain colour words.
    for field, options in (("setting", SETTINGS), ("action", actions), ("colour", COLOURS), ("shape", SHAPES)):
        attributes[field], rest = _find(rest, options)
        if attributes[field] is None:
            raise ValueError(f"no {field} of the toybox in {text!r}; there are: {', '.join(options)}")
    return Attributes(**attributes)


def vocabulary() -> list[str]:
    """Return every word and punctuation mark that a caption can contain, in a fixed order."""
    texts = list(TEMPLATES) + [w for table in (COLOURS, SHAPES, SETTINGS) for words in table.values() for w in words]
    texts += [form for pairs in ACTIONS.values() for pair in pairs for form in pair] + ["an"]
    words = re.findall(r"\w+|[^\w\s{}]", " ".join(texts).lower().replace("{", " {").replace("}", "} "))
    placeholders = {"colour", "shape", "acts", "acting", "setting"}
    return sorted(set(words) - placeholders)
