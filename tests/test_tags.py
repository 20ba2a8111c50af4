"""A film's own record: complete, read back as it was written, and refused with a reason where it cannot be trusted."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest

from longlive_core.config import StreamConfig
from longlive_core.film.read_tags import read_film
from longlive_core.film.tags import FilmRecord, film_metadata, plan_again, segments_of
from longlive_core.film.video import FilmWriter
from longlive_core.timeline import parse

STREAM = StreamConfig(
    window=9,
    sink=0,
    chunk=1,
    sink_policy="refreshed",
    positions="relative",
    denoising_steps=(1000, 321),
    shift=3.5,
    context_noise=7,
)
STORY = "* A panda.\n0s It walks\n1s \u96ea {keep}\n2s It sits {cut}"


def write(path, tags):
    with FilmWriter(path, 32, 16, metadata=tags) as film:
        film.write(np.zeros((1, 16, 32, 3), np.uint8))
    return path


def record(tmp_path, changes=(), fps=16):
    """A film with a record, changed by `changes` (None: left out)."""
    plan = parse(STORY).plan(3, fps, STREAM.chunk)
    tags = film_metadata(STORY, plan, STREAM, 2**40, (96, 64), "pocket")
    run = {key: value for key, value in (json.loads(tags["longlive"]) | dict(changes)).items() if value is not None}
    return write(tmp_path / "film.mp4", tags | {"longlive": json.dumps(run)}), plan


def test_a_film_tells_its_whole_run(tmp_path):
    """Forbids a setting that rendering again would have to guess; every field of StreamConfig differs here."""
    assert all(value != getattr(StreamConfig(), name) for name, value in vars(STREAM).items())
    path, plan = record(tmp_path, fps=24)
    film = read_film(path)
    assert film.stream == STREAM
    assert (film.timeline, film.fps, film.chunks, film.seed) == (STORY, 24, plan.chunks, 2**40)
    assert (film.size, film.model, film.frames) == ((96, 64), "pocket", plan.frames)
    assert list(film.segments) == segments_of(plan)
    assert film.segments[1] == {
        "chunk": plan.segments[1].start_chunk,
        "transition": "keep",
        "text": "A panda. \u96ea",
        "requested_seconds": 1.0,
        "seed": None,
        "blend": 0,
    }


@pytest.mark.parametrize(
    "story",
    [
        STORY,
        "a | b | c {cut} | d | e | f | g",
        "[0s-1.3s: a] [1.3s-9.1s: b]",
        "0c a\n3c b {cut}\n4c c {cut}\n9c d",
        "[0c-7c: a]",
        '{"prompts": ["a", "b {cut}", "c"]}',
        "a",
    ],
)
@pytest.mark.parametrize("fps", [16, 23.976, 30])
def test_every_timeline_gives_its_film_again(story, fps):
    """Forbids another number of chunks, or prompts that move: evenly split ones follow the duration requested, which
    is not that of the film."""
    script = parse(story)
    for chunk in (1, 3):
        stream = StreamConfig(chunk=chunk)
        longest = 86400 if chunk == 3 else 40000  # of chunks of one frame a day has more than a plan may have
        durations = [None] if script.segments[-1].end else [None, longest] + [7 + 0.0917 * step for step in range(25)]
        for duration in durations:
            plan = script.plan(duration, fps, chunk)
            segments = tuple(json.loads(json.dumps(segments_of(plan))))
            again = plan_again(script, FilmRecord(story, fps, plan.chunks, 0, (96, 64), stream, "pocket", segments))
            assert replace(again, segments=(), hints=()) == replace(plan, segments=(), hints=())
            assert [replace(s, requested_seconds=0) for s in again.segments] == [
                replace(s, requested_seconds=0) for s in plan.segments
            ]


def test_a_timeline_that_is_not_the_films_is_refused(tmp_path):
    """Forbids rendering a film again that is another one, because a program or a person changed one of the tags."""
    film = read_film(record(tmp_path)[0])
    for timeline in (STORY.replace("1s", "1.5s"), STORY.replace("walks", "runs"), STORY.replace("{keep}", "")):
        with pytest.raises(ValueError, match="was changed, or an earlier version .* give --duration"):
            plan_again(parse(timeline), film)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "was made by a newer version of LongLive .its format is 2, the newest known here 1."),
        ({"format": None}, "is damaged .'format' is missing"),
        ({"format": "1"}, "is damaged"),
        ({"fps": None}, "fps is missing"),
        ({"fps": 0}, "fps is 0"),
        ({"fps": "16"}, "is damaged"),
        ({"chunks": 0}, "chunks is 0"),
        ({"chunks": True}, "chunks is True"),
        ({"width": "96"}, "width is '96'"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"shift": None}, "shift is missing"),
        ({"context_noise": None}, "context_noise is missing"),
        ({"window": 4, "sink": 3, "chunk": 3}, "the window holds the sink"),
        ({"positions": "both"}, "positions is 'both': one of absolute, relative"),
        ({"denoising_steps": 4}, "is damaged"),
        ({"segments": []}, "segments has 0 entries"),
        (
            {"segments": [{"chunk": 0, "transition": "recache", "text": "a"}]},
            "segments.0..requested_seconds is missing",
        ),
        ({"segments": ["a"]}, "is damaged"),
        ({"segments": [{"chunk": "0", "transition": "cut", "text": "a", "requested_seconds": 0}]}, "chunk is '0'"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, changes, words):
    """Forbids a traceback, and a film rendered from what is left of its record."""
    path, _ = record(tmp_path, changes)
    with pytest.raises(ValueError, match=words) as caught:
        read_film(path)
    assert str(path) in str(caught.value)


def test_what_is_no_film_of_ours_is_refused(tmp_path):
    """Forbids one answer for everything that can be wrong with a file."""
    with pytest.raises(ValueError, match="there is no film"):
        read_film(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(ValueError, match="is not a video that can be read"):
        read_film(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 48000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="it has no picture track"):
        read_film(tmp_path / "sound.mp4")
    with pytest.raises(ValueError, match="it was not made by LongLive, or it was saved without metadata"):
        read_film(write(tmp_path / "other.mp4", {"comment": "0s a"}))
    for damaged in ("{", "[]", "7", '{"format": 1'):
        with pytest.raises(ValueError, match="is damaged"):
            read_film(write(tmp_path / "broken.mp4", {"comment": "0s a", "longlive": damaged}))
    tags = film_metadata(STORY, parse(STORY).plan(3), StreamConfig(), 0, (96, 64), "pocket")
    with pytest.raises(ValueError, match="'comment' is missing"):
        read_film(write(tmp_path / "broken.mp4", {"longlive": tags["longlive"]}))


def test_letters_of_another_program_do_not_matter(tmp_path):
    """Forbids refusing a good film because some other tag is not UTF-8."""
    tags = film_metadata(STORY, parse(STORY).plan(3), StreamConfig(), 0, (96, 64), "pocket")
    path = write(tmp_path / "film.mp4", {**tags, "studio": "Cafe 1900"})
    path.write_bytes(path.read_bytes().replace(b"Cafe 1900", b"Caf\xe9 1900"))
    assert read_film(path).timeline == STORY
