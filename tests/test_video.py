"""Films on disk: right frames, right colours, right names, and nothing left behind when something fails."""

import os

import av
import numpy as np
import pytest
from PIL import Image

from longlive_core.files import in_use, nofollow
from longlive_core.film.contact_sheet import contact_sheet
from longlive_core.film.video import Encoding, FilmInUse, FilmWriter, Joiner, encode_unit, part_path

from .holding import holding

WIDTH, HEIGHT = 96, 64
COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
    (0, 0, 0),
    (255, 255, 255),
    (128, 128, 128),
    (200, 80, 40),
    (30, 90, 160),
    (240, 200, 170),
]


def pictures(count, first=0):
    """Smooth moving pictures, uint8 [count, HEIGHT, WIDTH, 3]; each differs from the others."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    frames = [
        np.stack([(2 * x + t) % 256, (3 * y + 2 * t) % 256, np.full_like(x, 5 * t % 256)], -1)
        for t in range(first, first + count)
    ]
    return np.stack(frames).astype(np.uint8)


def write(path, lengths=(9, 12, 12), **settings):
    with FilmWriter(path, WIDTH, HEIGHT, **settings) as film:
        for length in lengths:
            film.write(pictures(length, film.frames))
    return film


def read(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_every_frame_comes_back_in_order(tmp_path):
    """Forbids lost, doubled or shifted frames (an encoder that is not flushed loses the last ones)."""
    film = write(tmp_path / "film.mp4")
    assert film.frames == 33
    frames = read(tmp_path / "film.mp4")
    errors = np.abs(np.stack(frames).astype(int) - pictures(33)).mean((1, 2, 3))
    assert len(frames) == 33 and errors.max() < 8
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.average_rate, stream.codec_context.pix_fmt) == (33, 16, "yuv420p")
        assert float(stream.duration * stream.time_base) == 33 / 16


def test_a_film_has_the_frames_of_its_units_in_any_company(tmp_path):
    """Forbids an encoder that remembers: an interrupted film must have the frames of one that was not."""
    lengths = ((9, 0), (12, 9), (1, 21))
    units = [encode_unit(pictures(length, first), Encoding(WIDTH, HEIGHT)) for length, first in lengths]
    assert units[1] == encode_unit(pictures(12, 9), Encoding(WIDTH, HEIGHT))
    frames = {}
    for name, chosen in {"all": units, "first": units[:1], "last": units[1:]}.items():
        with FilmWriter(tmp_path / f"{name}.mp4", WIDTH, HEIGHT) as film:
            for unit in chosen:
                film.add(unit)
        frames[name] = read(tmp_path / f"{name}.mp4")
    assert len(frames["all"]) == 22
    assert np.array_equal(frames["all"], frames["first"] + frames["last"])


@pytest.mark.parametrize("lengths", [(1, 4, 4), (9, 12, 1, 12), (1, 1, 2, 3, 30)])
def test_units_of_any_length_make_an_even_film(tmp_path, lengths):
    """Forbids times that run backwards or leave gaps if a short unit comes before a long one."""
    write(tmp_path / "film.mp4", lengths)
    with av.open(str(tmp_path / "film.mp4")) as container:
        stream = container.streams.video[0]
        times = [packet.dts for packet in container.demux(stream) if packet.size]
        assert times == sorted(set(times))
        assert float(stream.duration * stream.time_base) == sum(lengths) / 16
        container.seek(0)
        shown = [frame.time for frame in container.decode(stream)]
    assert np.allclose(shown, np.arange(sum(lengths)) / 16, atol=1e-3)


def test_a_growing_film_plays_at_any_moment(tmp_path):
    """Forbids a preview that no player opens before the film is done; the newest unit may wait for the next."""
    joiner = Joiner(tmp_path / "film.mp4", growing=True)
    for index in range(3):
        joiner.add(encode_unit(pictures(12, 12 * index), Encoding(WIDTH, HEIGHT)))
        if index:
            assert len(read(tmp_path / "film.mp4")) == 12 * index
    joiner.close()
    assert len(read(tmp_path / "film.mp4")) == 36


def test_units_that_were_encoded_in_another_way_are_refused(tmp_path):
    """Forbids a film whose second half is garbage in most players."""
    with FilmWriter(tmp_path / "film.mp4", WIDTH, HEIGHT) as film:
        film.write(pictures(2))
        with pytest.raises(ValueError, match="encoded in different ways"):
            film.add(encode_unit(pictures(2).repeat(2, 1), Encoding(WIDTH, 2 * HEIGHT)))


def test_colours_survive(tmp_path):
    """Forbids converting with one colour matrix and tagging another: reds and greens shift by 20 levels."""
    patches = np.array(COLOURS, np.uint8).reshape(3, 4, 3).repeat(32, 0).repeat(32, 1)
    with FilmWriter(tmp_path / "film.mp4", 128, 96) as film:
        film.write(np.stack([patches] * 9))
    back = read(tmp_path / "film.mp4")[4].astype(int)
    centres = back.reshape(3, 32, 4, 32, 3)[:, 8:24, :, 8:24].mean((1, 3)).reshape(-1, 3)
    assert np.abs(centres - np.array(COLOURS)).max() <= 4
    with av.open(str(tmp_path / "film.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range)) == (6, 1)  # BT.601 (SMPTE 170M), limited


def test_every_write_begins_with_a_keyframe(tmp_path):
    """Forbids films that cannot be cut or joined between chunks."""
    write(tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as container:
        keys = [index for index, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys == [0, 9, 21]


def test_equal_frames_make_equal_files(tmp_path):
    """Forbids clocks, races and x264's mbtree in the file: renders must be comparable byte by byte."""
    files = set()
    for _ in range(8):
        write(tmp_path / "film.mp4", metadata={"comment": "a"})
        files.add((tmp_path / "film.mp4").read_bytes())
    assert len(files) == 1


def test_plain_mp4_with_metadata_in_front(tmp_path):
    """Forbids fragmented files, an index at the end (no streaming), and metadata that is dropped or cut."""
    workflow = '{"prompt": "' + "\u96ea" * 50000 + '"}'
    write(tmp_path / "film.mp4", metadata={"workflow": workflow, "comment": "a panda"})
    data = (tmp_path / "film.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat") and b"moof" not in data
    with av.open(str(tmp_path / "film.mp4")) as container:
        assert container.metadata["workflow"] == workflow
        assert container.metadata["comment"] == "a panda"


def test_the_film_has_its_name_only_when_it_is_whole(tmp_path):
    """Forbids a half film under the name of a finished one, and parts left behind."""
    path = tmp_path / "a film.mp4"
    with FilmWriter(path, WIDTH, HEIGHT) as film:
        film.write(pictures(9))
        film.write(pictures(40))
        assert not path.exists() and part_path(path).exists()
    assert os.listdir(tmp_path) == ["a film.mp4"]


def test_a_failed_film_leaves_the_old_one(tmp_path):
    """Forbids losing yesterday's film to today's error."""
    path = tmp_path / "film.mp4"
    write(path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="out of memory"), FilmWriter(path, WIDTH, HEIGHT) as film:
        film.write(pictures(49))
        assert part_path(path).exists()
        raise RuntimeError("out of memory")
    assert os.listdir(tmp_path) == ["film.mp4"]
    with pytest.raises(RuntimeError), FilmWriter(path, WIDTH, HEIGHT):
        raise RuntimeError("before the first frame")
    assert os.listdir(tmp_path) == ["film.mp4"] and path.read_bytes() == before


def test_a_film_without_frames_is_an_error(tmp_path):
    """Forbids an MP4 of zero frames, which no player opens."""
    with pytest.raises(ValueError, match="no frame was written"), FilmWriter(tmp_path / "film.mp4", WIDTH, HEIGHT):
        pass
    assert not os.listdir(tmp_path)


def test_a_film_whose_name_is_held_gets_another(tmp_path, monkeypatch):
    """Forbids losing a finished film, or the old one, because a player holds the old one open (Windows)."""
    write(tmp_path / "film.mp4")
    (tmp_path / "film.1.mp4").write_text("the user's own")
    before = (tmp_path / "film.mp4").read_bytes()
    with holding(monkeypatch, tmp_path / "film.mp4"), pytest.raises(FilmInUse, match=r"film is '.*\.2\.mp4'") as told:
        write(tmp_path / "film.mp4")
    assert told.value.kept == tmp_path / "film.2.mp4"
    assert len(read_part(told.value.kept)) == 33
    assert (tmp_path / "film.mp4").read_bytes() == before
    assert (tmp_path / "film.1.mp4").read_text() == "the user's own"
    assert len(os.listdir(tmp_path)) == 3


def test_a_film_that_no_name_takes_stays_as_its_part(tmp_path, monkeypatch):
    """Forbids losing a finished film where nothing can be renamed."""

    def refuse(source, target):
        raise PermissionError(13, "in use")

    monkeypatch.setattr(in_use, "PAUSES", ())
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FilmInUse, match=r"finished film is '.*film\.mp4\.part'"):
        write(tmp_path / "film.mp4")
    assert len(read_part(tmp_path / "film.mp4.part")) == 33


def test_a_reader_that_lets_go_is_waited_for(tmp_path, monkeypatch):
    """Forbids another name for a film that a virus scanner looked at for a moment."""
    write(tmp_path / "film.mp4")
    with holding(monkeypatch, tmp_path / "film.mp4", times=2) as waited:
        write(tmp_path / "film.mp4", lengths=(9,))
    assert len(waited) == 2 and os.listdir(tmp_path) == ["film.mp4"]
    assert len(read(tmp_path / "film.mp4")) == 9


def read_part(path):
    with av.open(str(path), format="mp4") as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 95}, "even"),
        ({"height": 0}, "even"),
        ({"crf": 52}, "crf is 52"),
        ({"fps": 0}, "fps is 0"),
        ({"path": "missing/film.mp4"}, "does not exist"),
        ({"path": "."}, "is a folder"),
        ({"path": "file/film.mp4"}, "does not exist"),
    ],
)
def test_what_cannot_work_fails_at_once(tmp_path, settings, words):
    """Forbids the error that a film cannot be written after an hour of rendering, not before."""
    (tmp_path / "file").write_text("not a folder")
    settings = {"path": "film.mp4", "width": WIDTH, "height": HEIGHT} | settings
    path = tmp_path / settings.pop("path")
    with pytest.raises(ValueError, match=words):
        FilmWriter(path, **settings)


def test_an_unwritable_folder_fails_at_once(tmp_path, monkeypatch):
    """As above, for a folder that exists but takes no files."""

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(nofollow, "create", refuse)
    with pytest.raises(ValueError, match=r"cannot write to .* \(Permission denied\)"):
        FilmWriter(tmp_path / "film.mp4", WIDTH, HEIGHT)


def test_wrong_frames_are_refused(tmp_path):
    """Forbids silently scaling, or wrapping floats around to uint8."""
    with FilmWriter(tmp_path / "film.mp4", WIDTH, HEIGHT) as film:
        for wrong in (pictures(2)[:, :, :-2], pictures(2)[0], pictures(2) / 255):
            with pytest.raises(ValueError, match="this film takes uint8"):
                film.write(wrong)
        film.write(pictures(1))
    with pytest.raises(ValueError, match="is finished"):
        film.write(pictures(1))


def test_contact_sheet(tmp_path):
    """Forbids a sheet with missing pictures, pictures at wrong times, or prompts that are not drawn."""
    write(tmp_path / "film.mp4")
    prompts = [(0.0, "A panda walks through the snow " * 9), (1.0, "A panda sits")]
    count = contact_sheet(tmp_path / "film.mp4", tmp_path / "sheet.png", columns=3, count=6, prompts=prompts)
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels, size = np.array(sheet.convert("RGB")).astype(int), sheet.size
    assert count == 6 and size[0] == 3 * (320 + 12) + 12
    row = size[1] // 2
    for index, frame in enumerate([2, 8, 13, 19, 24, 30]):  # the middles of six equal parts of 33 frames
        y, x = index // 3 * (size[1] - 12) // 2 + 12, index % 3 * 332 + 12
        shown = pixels[y + 100 : y + 108, x + 80 : x + 88].mean((0, 1))
        (source,) = pictures(1, frame)
        assert np.abs(shown - source[31, 25]).max() < 16
    assert (pixels[row - 60 : row - 12].max(-1) > 200).sum() > 200  # letters below the first row
    assert sorted(os.listdir(tmp_path)) == ["film.mp4", "sheet.png"]


def test_contact_sheet_every_second_and_its_errors(tmp_path):
    """Forbids reading `every` as a count, and a traceback from the decoder for a file that is no film."""
    write(tmp_path / "film.mp4")
    assert contact_sheet(tmp_path / "film.mp4", tmp_path / "a.png", every=0.5) == 5
    assert contact_sheet(tmp_path / "film.mp4", tmp_path / "a.png", count=100) == 33
    with pytest.raises(ValueError, match="cannot read the film"):
        contact_sheet(tmp_path / "none.mp4", tmp_path / "a.png")
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(ValueError, match="cannot read the film"):
        contact_sheet(tmp_path / "text.mp4", tmp_path / "a.png")
    with pytest.raises(ValueError, match="above 0"):
        contact_sheet(tmp_path / "film.mp4", tmp_path / "a.png", columns=0)
    with pytest.raises(ValueError, match="cannot write the contact sheet"):
        contact_sheet(tmp_path / "film.mp4", tmp_path / "none" / "a.png")
