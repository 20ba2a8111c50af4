"""Subtitles in a film: the right words at the right time, pictures that do not notice, and what cannot work refused."""

from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest

from longlive_core.film import subtitles as subtitles_module
from longlive_core.film.subtitles import Subtitle
from longlive_core.film.video import Encoding, FilmWriter, Joiner, encode_unit
from longlive_core.takes.take import subtitles_of_take
from longlive_core.timeline import parse

WIDTH, HEIGHT = 96, 64
ODD = "\u718a\u732b \U0001f43c \u00fcber <b>{x}</b>\\N"
STORY = [Subtitle(0, "A panda walks."), Subtitle(9, ODD), Subtitle(21, "It sits.")]
HAS_CHAPTERS = tuple(map(int, av.__version__.split(".")[:2])) >= (16, 1)


def pictures(count, first=0):
    """Pictures that differ, uint8 [count, HEIGHT, WIDTH, 3]."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    frames = [np.stack([(2 * x + t) % 256, (3 * y + 2 * t) % 256, x + y], -1) for t in range(first, first + count)]
    return np.stack(frames).astype(np.uint8)


def write(path, subtitles, lengths=(9, 12, 12), **settings):
    with FilmWriter(path, WIDTH, HEIGHT, subtitles=subtitles, **settings) as film:
        for length in lengths:
            film.write(pictures(length, film.frames))
    return path


def read_subtitles(path):
    """(start, end in seconds, text) of each subtitle, without the empty ones."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.subtitles
        packets = [packet for packet in container.demux(stream) if packet.size]
        found = []
        for packet in packets:
            data, start, end = bytes(packet), packet.pts, packet.pts + packet.duration
            assert int.from_bytes(data[:2], "big") == len(data) - 2
            if len(data) > 2:
                found.append((float(start * packet.time_base), float(end * packet.time_base), data[2:].decode()))
    return found


def video_packets(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(packet.pts, packet.dts, packet.duration, bytes(packet)) for packet in container.demux(stream)]


@pytest.mark.parametrize("fps", [16, 24000 / 1001, 60])
def test_every_segment_is_named_while_it_lasts(tmp_path, fps):
    """Forbids subtitles early, late, overlapping, damaged or without an end, and a track that players show unasked."""
    path = write(tmp_path / "film.mp4", STORY, fps=fps)
    found = read_subtitles(path)
    assert [text for _, _, text in found] == [subtitle.text for subtitle in STORY]
    bounds = [0, 9 / fps, 21 / fps, 33 / fps]
    assert np.allclose([(start, end) for start, end, _ in found], list(pairwise(bounds)), atol=2e-4)
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        assert (stream.codec_context.name, stream.metadata["language"]) == ("mov_text", "und")
        assert not stream.disposition and container.streams.video[0].disposition
        packet = next(packet for packet in container.demux(stream) if packet.pts)
        assert "\u718a\u732b \U0001f43c" in packet.decode()[0].dialogue.decode()  # FFmpeg's own reader


@pytest.mark.skipif(not HAS_CHAPTERS, reason="PyAV writes chapters since 16.1")
def test_every_segment_is_a_chapter(tmp_path):
    """Forbids chapters that begin with the picture before them, or that outlast the film."""
    path = write(tmp_path / "film.mp4", [*STORY[:2], Subtitle(21, "\u96ea" * 200)])
    with av.open(str(path)) as container:
        chapters = container.chapters()
        times = [(chapter["start"], chapter["end"]) for chapter in chapters]
        assert all(chapter["time_base"] * 1000 == 1 for chapter in chapters)
        assert container.duration == 33 / 16 * 1e6
    assert times == [(0, 563), (563, 1313), (1313, 2062)]
    titles = [chapter["metadata"]["title"] for chapter in chapters]
    assert titles == [STORY[0].text, STORY[1].text, "\u96ea" * 84 + "\u2026"]


def test_older_pyav_writes_the_subtitles_alone(tmp_path, monkeypatch):
    """Forbids a film that fails, or a process that crashes, where PyAV cannot write chapters."""
    monkeypatch.setattr(subtitles_module, "_CHAPTERS_SINCE", (999, 0))
    path = write(tmp_path / "film.mp4", STORY)
    assert len(read_subtitles(path)) == 3
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "subtitle"]


def test_pictures_do_not_notice(tmp_path):
    """Forbids a subtitle that changes, delays or lengthens the film; equal films stay equal files."""
    plain, named = write(tmp_path / "plain.mp4", ()), write(tmp_path / "named.mp4", STORY)
    assert video_packets(plain) == video_packets(named)
    with av.open(str(plain)) as one, av.open(str(named)) as two:
        assert abs(one.duration - two.duration) < 1000 and [stream.type for stream in one.streams] == ["video"]
        assert one.streams.video[0].duration == two.streams.video[0].duration
        assert one.streams.video[0].frames == two.streams.video[0].frames == 33
    assert named.read_bytes() == write(tmp_path / "again.mp4", STORY).read_bytes()
    data = named.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_a_film_that_ends_early(tmp_path):
    """Forbids subtitles beyond the last picture: they would make a partial film look whole, and play on in black."""
    story = [*STORY, Subtitle(33, "never"), Subtitle(1000, "never")]
    assert [text for _, _, text in read_subtitles(write(tmp_path / "a.mp4", story))] == [
        subtitle.text for subtitle in STORY
    ]
    ((start, end, _),) = read_subtitles(write(tmp_path / "b.mp4", STORY, lengths=(5,)))
    assert (start, round(end, 3)) == (0, 0.312)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.duration == 5 / 16 * 1e6


def test_subtitles_between_the_units_and_after_the_start(tmp_path):
    """Forbids subtitles that snap to units, and a first one that is pulled to the film's start."""
    found = read_subtitles(write(tmp_path / "film.mp4", [Subtitle(4, "a"), Subtitle(5, "b"), Subtitle(20, "c")]))
    assert [(round(16 * start), round(16 * end), text) for start, end, text in found] == [
        (4, 5, "a"),
        (5, 20, "b"),
        (20, 33, "c"),
    ]


def test_a_text_that_is_too_long_is_cut_after_a_letter(tmp_path):
    """Forbids a length that overflows into the next sample, half letters, and lost room."""
    texts = ["\u96ea" * 21845, "\u96ea" * 21846, "x" + "\U0001f43c" * 20000, "half \ud83d a pair", ""]
    subtitles = [Subtitle(index, text) for index, text in enumerate(texts)]
    found = [text for _, _, text in read_subtitles(write(tmp_path / "film.mp4", subtitles))]
    assert found == [
        texts[0],
        "\u96ea" * 21844 + "\u2026",
        "x" + "\U0001f43c" * 16382 + "\u2026",
        "half <U+D83D> a pair",
    ]


def test_a_long_film_is_written_as_it_grows(tmp_path):
    """Forbids a muxer that keeps the pictures in memory until the next subtitle comes."""
    noise = np.random.default_rng(0).integers(0, 256, (12, HEIGHT, WIDTH, 3), dtype=np.uint8)
    unit = encode_unit(noise, Encoding(WIDTH, HEIGHT, crf=5))
    joiner = Joiner(tmp_path / "film.mp4", subtitles=[Subtitle(0, "a"), Subtitle(1190, "b"), Subtitle(5000, "c")])
    for _ in range(100):
        joiner.add(unit)
    waiting = 100 * len(unit) - (tmp_path / "film.mp4").stat().st_size
    assert waiting < 25 * len(unit)  # 10 s of pictures, the muxer's limit, and what the file holds back
    joiner.close()
    with av.open(str(tmp_path / "film.mp4")) as container:
        video, words = container.streams.video[0], container.streams.subtitles[0]
        places = [
            (packet.stream is words, packet.pos, packet.dts * packet.time_base)
            for packet in container.demux(video, words)
            if packet.size > 2
        ]
    places.sort(key=lambda place: place[1])
    assert [time for _, _, time in places] == sorted(time for _, _, time in places)
    assert sum(is_text for is_text, _, _ in places) == 2


@pytest.mark.parametrize("frames", [(-1, 5), (0, 0), (0, 9, 4)])
def test_subtitles_out_of_order_are_refused(tmp_path, frames):
    """Forbids a file that FFmpeg refuses after the render, or one with subtitles left out."""
    with pytest.raises(ValueError, match="they must rise"):
        FilmWriter(tmp_path / "film.mp4", WIDTH, HEIGHT, subtitles=[Subtitle(frame, "a") for frame in frames])


def test_a_growing_film_takes_none(tmp_path):
    """Forbids subtitles that are dropped silently."""
    with pytest.raises(ValueError, match="a growing film takes no subtitles"):
        Joiner(tmp_path / "film.mp4", growing=True, subtitles=STORY)


@pytest.mark.parametrize("chunk", [1, 3])
def test_subtitles_of_a_take_are_those_of_its_plan(chunk):
    """Forbids forgetting that a shot's first chunk is shorter."""
    plan = parse("0c a\n2c b\n5c c {cut}\n6c d {keep}\n9c e {cut}\n10c f {cut}\n14c g").plan(40, chunk=chunk)
    segments = [{"chunk": s.start_chunk, "transition": s.transition, "text": s.text} for s in plan.segments]
    take = SimpleNamespace(segments=segments, origin={"stream": {"chunk": chunk}})
    subtitles = subtitles_of_take(take)
    assert [subtitle.frame for subtitle in subtitles] == [segment.start_frame for segment in plan.segments]
    assert "".join(subtitle.text for subtitle in subtitles) == "abcdefg"
