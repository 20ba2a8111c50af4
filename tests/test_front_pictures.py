"""The README's pictures: what is put into them, without a server or a browser."""

import re

import numpy as np
from PIL import Image

from scripts import front_pictures
from scripts.harness import graphs


def test_the_film_shows_the_prompt_in_force():
    """Forbids lost frames, and a prompt that is shown before or after its time."""
    frames = np.random.default_rng(0).integers(0, 255, (40, 80, 128, 3), dtype=np.uint8)
    pictures = front_pictures.compose(frames, [(0.0, "A ball."), (1.0, "A star.")])
    words = [np.asarray(picture)[-48:] for picture in pictures]
    assert len(pictures) == len(frames)
    assert {picture.size for picture in pictures} == {(512, 388)}
    assert all(np.array_equal(words[0], later) for later in words[:16])
    assert all(np.array_equal(words[16], later) for later in words[16:])
    assert not np.array_equal(words[0], words[16])


def test_the_graph_is_the_demos():
    """Forbids a picture of another story than the demo's, or without its nodes."""
    demo, shown = graphs.ui(front_pictures.WORKFLOW), front_pictures.workflow()
    assert {node["type"] for node in shown["nodes"]} == set(front_pictures.PLACES)

    def prompts(workflow: dict) -> list[str]:
        timeline = next(node for node in workflow["nodes"] if node["type"] == "LongLivePromptTimeline")
        return [re.sub(r"^\S+\s+", "", line) for line in timeline["widgets_values"][0].splitlines()]

    assert prompts(shown) == prompts(demo)


def test_the_pictures_are_there_and_small():
    """Forbids pictures that are missing, still where they should move, or too large for a page."""
    files = [front_pictures.PICTURES / name for name in ("story.webp", "graph.webp")]
    assert sum(file.stat().st_size for file in files) < front_pictures.MOST_BYTES
    assert [Image.open(file).n_frames > 100 for file in files] == [True, False]
