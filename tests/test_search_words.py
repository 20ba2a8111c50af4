"""The words by which artists look for the nodes; tests/comfy/test_browser.py looks for each in the front end."""

import json
from pathlib import Path

import pytest

WORDS = json.loads((Path(__file__).resolve().parents[1] / "web" / "search_words.json").read_text(encoding="utf-8"))
SAMPLER, TIMELINE, LOAD = "LongLiveStreamSampler", "LongLivePromptTimeline", "LongLiveLoad"


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (LOAD, ["longlive", "wan", "wan 2.1", "self forcing", "causal"]),
        (TIMELINE, ["prompt travel", "prompt schedule", "storyboard", "multi prompt", "scenes"]),
        (
            SAMPLER,
            [
                "long video",
                "streaming",
                "real time",
                "infinite video",
                "extend video",
                "continue video",
                "i2v",
                "image to video",
                "live prompt",
                "interactive",
                "text to video",
            ],
        ),
        ("LongLiveQuantizeINT8", ["int8", "quantize", "low vram"]),
        ("LongLiveTakeFrames", ["last frame", "extract frames"]),
        ("LongLiveLoadTake", ["resume", "extend video", "continue video"]),
        ("LongLiveBranchTake", ["branch", "fork"]),
    ],
)
def test_artists_words(node, words):
    """Forbids nodes that are found by their names only."""
    assert set(words) <= set(WORDS[node])


def test_words_are_written_as_people_type_them():
    """Forbids capitals, which no search needs, and words that stand twice."""
    for words in WORDS.values():
        assert len(set(words)) == len(words) and all(word == word.lower().strip() for word in words)
