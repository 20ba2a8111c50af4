"""Films to evaluate: segments where the renderer put them, and files that are no such films."""

import numpy as np
import pytest
from PIL import Image

from longlive_core.config import StreamConfig
from longlive_core.eval import FilmSegment, open_film
from longlive_core.film.tags import film_metadata
from longlive_core.timeline import parse
from tests.eval.making import STORY, write_film, write_truth


def _grey(frames, size=(16, 32)):
    return np.full((frames, *size, 3), 90, np.uint8)


def test_segments_are_where_the_renderer_put_them(tmp_path):
    """Forbids switches searched for beside the real ones: at requested times, or counted through a cut."""
    text = "* A panda.\n0s It walks\n2s It sits {keep}\n4s It sleeps {cut}\n6s It eats {blend=1s}"
    plan = parse(text).plan(9)
    tags = film_metadata(text, plan, StreamConfig(), 0, (32, 16), "tiny")
    film = open_film(write_film(tmp_path / "film.mp4", _grey(plan.frames), tags))
    assert [segment.start for segment in film.segments] == [part.start_frame for part in plan.segments]
    assert film.segments[1].text == "A panda. It sits" and film.segments[2].transition == "cut"
    assert film.segments[3].blend == 12 * plan.segments[3].blend > 0
    assert film.fps == 16 and film.size == (32, 16)


def test_frames_come_one_by_one_and_all(tmp_path):
    """Forbids a film that is loaded as a whole, and one read with the wrong colours."""
    frames = np.repeat(np.arange(40, 200, 8, np.uint8), 16 * 32 * 3).reshape(20, 16, 32, 3)
    read = open_film(write_film(tmp_path / "film.mp4", frames), "0s a").frames()
    assert not isinstance(read, list)
    assert all(np.abs(one.astype(int) - two).max() <= 4 for one, two in zip(read, frames, strict=True))


def test_a_given_timeline_wins_and_snaps_as_when_rendering(tmp_path):
    """Forbids a --timeline that is not used, or used at other frames than a render would."""
    film = open_film(write_truth(tmp_path / "film.mp4", frames=100), "0s one\n3s two {keep}")
    assert film.segments == (FilmSegment(0, "one"), FilmSegment(45, "two", "keep"))


def test_a_stopped_film_has_the_segments_it_reached(tmp_path):
    """Forbids scores of prompts that were never rendered."""
    assert len(open_film(write_truth(tmp_path / "whole.mp4")).segments) == 2
    assert len(open_film(write_truth(tmp_path / "part.mp4", frames=50)).segments) == 1


def test_a_film_that_was_changed_after_rendering_is_refused(tmp_path):
    """Forbids prompts scored at the wrong frames of a film that was interpolated, or put together with another."""
    text, plan = STORY, parse(STORY).plan(10)
    tags = film_metadata(text, plan, StreamConfig(), 0, (32, 16), "tiny")
    for frames, fps, words in (
        (plan.frames, 32, "at 32 per second, its tags state .* at 16"),
        (plan.frames + 60, 16, f"it has {plan.frames + 60} frames"),
    ):
        path = write_film(tmp_path / "changed.mp4", _grey(frames), tags, fps)
        with pytest.raises(ValueError, match=f"was changed after it was rendered: .*{words}.*--timeline"):
            open_film(path)
        assert open_film(path, "0s a").claimed == frames


def test_a_film_without_tags_needs_a_timeline(tmp_path):
    """Forbids a film evaluated against prompts that were guessed."""
    path = write_film(tmp_path / "film.mp4", _grey(30))
    with pytest.raises(ValueError, match="does not say how it was rendered.*--timeline"):
        open_film(path)
    assert open_film(path, "0s a").segments == (FilmSegment(0, "a"),)


def test_a_timeline_of_a_longer_film_is_refused(tmp_path):
    """Forbids segments beyond the end that are never scored."""
    with pytest.raises(ValueError, match="past the end of the film"):
        open_film(write_film(tmp_path / "film.mp4", _grey(30)), "0s a\n20s b")


def test_what_is_no_film_is_refused(tmp_path):
    """Forbids tracebacks for a wrong path, a text, a picture."""
    (tmp_path / "text.mp4").write_text("0s a panda")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    for name, words in (
        ("none.mp4", "there is no film"),
        ("text.mp4", "is not a video that can be read"),
        ("picture.png", "is not a film|does not say how"),
    ):
        with pytest.raises(ValueError, match=words):
            open_film(tmp_path / name)


def test_a_broken_download_is_reported(tmp_path):
    """Forbids scores of half a film that look like those of a whole one."""
    path = write_truth(tmp_path / "film.mp4", STORY)
    data = (tmp_path / "film.mp4").read_bytes()
    (tmp_path / "film.mp4").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match="breaks off after frame"):
        list(open_film(path).frames())
