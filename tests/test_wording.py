"""Plurals and shortened texts."""

import re
from pathlib import Path

import pytest

from longlive_core.words.wording import count, shorten, shorten_middle

ROOT = Path(__file__).resolve().parents[1]
# A number and a plural in one text: "{n} chunks" says "1 chunks" one day.
BLIND = re.compile(r"\{[^{}]*\} (?:of \{[^{}]*\} )?(?:chunks|prompts|takes|segments)\b")


@pytest.mark.parametrize(("number", "text"), [(0, "0 chunks"), (1, "1 chunk"), (2, "2 chunks")])
def test_plurals(number, text):
    """Forbids "1 chunks"."""
    assert count(number, "chunk") == text
    assert count(1, "entry", "entries") == "1 entry" and count(3, "entry", "entries") == "3 entries"


@pytest.mark.parametrize(
    "path",
    [
        *(
            ROOT / "longlive_core" / name
            for name in ("timeline/plan.py", "timeline/report.py", "run/estimate.py", "run/reports.py")
        ),
        *(ROOT / "longlive_core" / "cli").glob("*.py"),
        *(ROOT / "longlive_core" / "takes").glob("*.py"),
        *(ROOT / "nodes").glob("*.py"),
        *(ROOT / "web").glob("*.js"),
    ],
    ids=lambda path: path.name,
)
def test_no_text_counts_without_the_helper(path):
    """Forbids a plural after any number in texts of plans, reports, takes and the command line."""
    assert BLIND.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("A red ball", 10, "A red ball"),
        ("A red ball bounces.", 12, "A red ball…"),
        ("A red ball bounces.", 11, "A red ball…"),
        ("A red,\n ball  bounces", 8, "A red…"),
        ("Donaudampfschifffahrt", 8, "Donauda…"),
        ("", 5, ""),
    ],
)
def test_texts_end_with_a_word(text, width, shown):
    """Forbids texts that are cut inside a word where they need not be, or grow beyond their place."""
    assert shorten(text, width) == shown and len(shown) <= width


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        ("lora.safetensors", 16, "lora.safetensors"),
        ("my_very_long_lora_v2.safetensors", 15, "my_very…tensors"),
        ("abcdef", 4, "ab…f"),
        ("abcdef", 1, "…"),
    ],
)
def test_names_keep_both_ends(name, width, shown):
    """Forbids a file's name without what it begins with, or without its version and kind."""
    assert shorten_middle(name, width) == shown and len(shown) <= width
