"""Search words for the nodes; the front end reads the same file (web/search.js)."""

from __future__ import annotations

import json
from pathlib import Path

WORDS: dict[str, list[str]] = json.loads(
    (Path(__file__).resolve().parent.parent / "web" / "search_words.json").read_text(encoding="utf-8")
)
