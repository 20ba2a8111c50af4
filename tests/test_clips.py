"""Clips that films begin with: as many frames as they last, in their order, upright and in their colours."""

from fractions import Fraction

import numpy as np
import pytest

from longlive_core.eval import open_film
from longlive_core.film import clips
from longlive_core.film.clips import read_clip

from .filming import CORNERS, four_corners, ramp, turn, write_clip, write_sound

SIZE = (64, 48)
MILLISECOND = Fraction(1, 1000)
NTSC = Fraction(1000, 1001)


def levels(path, fps=16, notes=None):
    """The frames' mean levels."""
    clip = read_clip(path, SIZE, fps, (notes if notes is not None else []).append)
    assert clip.shape[1:] == (48, 64, 3)
    return (clip.mean(dim=(1, 2, 3)) * 255).numpy()


def corners(path, notes=None):
    clip = read_clip(path, SIZE, 16, (notes if notes is not None else []).append)
    return [tuple((clip[0, y, x] * 255).round().int().tolist()) for y, x in ((8, 8), (8, -8), (-8, 8), (-8, -8))]


def close(found, expected, most=5):
    return np.abs(np.array(found, int) - np.array(expected, int)).max() <= most


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts", "mov"])
@pytest.mark.parametrize("start", [0, 10, 200, 5000])
def test_two_seconds_are_two_seconds_wherever_they_begin(tmp_path, ending, start):
    """Forbids copies of the first frame for the time before it, and a refusal of what was cut out of a long film."""
    codec = "ffv1" if ending == "mkv" else "libx264"
    path = write_clip(tmp_path / f"clip.{ending}", ramp(32), stamps=np.arange(32) + 16 * start, codec=codec)
    notes = []
    assert np.abs(levels(path, notes=notes) - np.linspace(8, 240, 32)).max() < 3 and not notes


def test_times_below_zero_are_times(tmp_path):
    """Forbids a clip that loses frames before time 0."""
    path = write_clip(tmp_path / "clip.mkv", ramp(32), stamps=np.arange(32) - 20)
    assert np.abs(levels(path) - np.linspace(8, 240, 32)).max() < 2


def test_sound_that_begins_earlier_moves_nothing(tmp_path):
    """Forbids a first frame that is held until the sound's start."""
    for ending, codec in (("mp4", "libx264"), ("mkv", "ffv1")):
        path = write_clip(tmp_path / f"clip.{ending}", ramp(32), stamps=np.arange(32) + 16, codec=codec, sound=True)
        assert np.abs(levels(path) - np.linspace(8, 240, 32)).max() < 3


@pytest.mark.parametrize("rate", [8, 12, 15, 24 * NTSC, 24, 25, 30 * NTSC, 30, 50, 60 * NTSC, 60, 120])
def test_other_rates_keep_the_length_and_the_order(tmp_path, rate):
    """Forbids slow and fast motion, a frame too many, and a first frame that is not the clip's."""
    count = round(2 * rate)
    found = levels(write_clip(tmp_path / "clip.mkv", ramp(count), rate))
    assert len(found) == 32 and found[0] < 9 and (np.diff(found) >= 0).all()
    places = (found - 8) / 232 * (count - 1)  # of the frame shown
    assert np.abs(places - np.arange(32) * float(rate) / 16).max() <= 0.51 + count / 400  # levels are whole numbers


@pytest.mark.parametrize("fps", [8, 12, 24, 30])
def test_films_of_other_rates_take_as_many_frames_as_the_clip_lasts(tmp_path, fps):
    """Forbids a count that is right at 16 frames a second alone."""
    assert len(levels(write_clip(tmp_path / "clip.mkv", ramp(32)), fps)) == 2 * fps


def test_a_variable_rate_shows_each_picture_at_its_time(tmp_path):
    """Forbids frames shown one after the other as if their rate were constant."""
    times = [0, 100, 150, 700, 720, 1500, 1900]  # ms
    found = levels(write_clip(tmp_path / "clip.mkv", ramp(7), stamps=times, base=MILLISECOND))
    places = ((found - 8) / 232 * 6).round().astype(int)
    expected = [max(i for i, time in enumerate(times) if time <= 62.5 * k + 31) for k in range(len(places))]
    assert len(places) >= 31 and np.abs(places - expected).max() <= 1 and (places[12:20] == 4).all()


def test_a_picture_stands_through_a_gap_and_that_is_said(tmp_path):
    """Forbids showing the next picture during a gap, and a picture held for seconds that is not reported."""
    stamps = np.arange(32) + np.where(np.arange(32) > 15, 160, 0)
    notes = []
    found = levels(write_clip(tmp_path / "clip.mkv", ramp(32), stamps=stamps), notes=notes)
    assert len(found) == 192 and np.ptp(found[15:175]) < 1 and found[176] > found[174] + 5
    assert len(notes) == 1 and "does not change from 0.94 s to 11.00 s" in notes[0]


def test_a_gap_that_is_too_long_is_the_error(tmp_path):
    """Forbids advice about a long clip if two seconds of it are an hour apart."""
    stamps = np.arange(32) + np.where(np.arange(32) > 15, 16 * 3600, 0)
    with pytest.raises(ValueError, match="from 0.94 s to 3601.00 s the picture does not change; cut that out"):
        levels(write_clip(tmp_path / "clip.mkv", ramp(32), stamps=stamps))


def test_a_clip_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "MOST_FRAMES", 40)
    with pytest.raises(ValueError, match="more than 40 frames at 16 a second; give only its last seconds"):
        levels(write_clip(tmp_path / "clip.mkv", ramp(42)))


def test_stamps_that_run_backwards_are_reported(tmp_path):
    """Forbids a lost half of two recordings that were put into one file byte by byte."""
    parts = [write_clip(tmp_path / f"{n}.ts", ramp(32)[16 * n : 16 * n + 16], codec="libx264") for n in (0, 1)]
    (tmp_path / "clip.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    notes = []
    assert np.abs(levels(tmp_path / "clip.ts", notes=notes) - np.linspace(8, 240, 32)).max() < 3
    assert len(notes) == 1 and "run backwards at frame 16" in notes[0]


def test_stamps_that_stand_still_are_reported(tmp_path):
    """Forbids one frame of two seconds whose stamps are all the same."""
    path = write_clip(tmp_path / "clip.mkv", ramp(32), stamps=np.zeros(32))
    notes = []
    assert 30 <= len(levels(path, notes=notes)) <= 32 and "do not increase at frame 2" in notes[0]


def test_frames_without_stamps_come_at_the_rate(tmp_path):
    """Forbids one frame, or none, of a stream without a container."""
    path = write_clip(tmp_path / "clip.h264", ramp(32), 25, codec="libx264")
    assert len(levels(path, 25)) == 32


def test_one_frame_is_a_picture(tmp_path):
    for ending, codec in (("mp4", "libx264"), ("mkv", "ffv1")):
        assert len(levels(write_clip(tmp_path / f"clip.{ending}", ramp(1), codec=codec))) == 1


def test_a_reversed_clip_stays_reversed(tmp_path):
    found = levels(write_clip(tmp_path / "clip.mkv", ramp(32)[::-1]))
    assert np.abs(found - np.linspace(8, 240, 32)[::-1]).max() < 2


def test_half_a_clip_is_named(tmp_path):
    """Forbids an incomplete download read as a clip of half the length."""
    path = write_clip(tmp_path / "clip.mkv", np.random.default_rng(0).integers(0, 255, (32, 48, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    notes = []
    assert 8 < len(levels(path, notes=notes)) < 24 and "is it complete" in notes[-1]


def test_what_holds_no_pictures_is_named(tmp_path):
    """Forbids 'tuple index out of range', and a text that FFmpeg draws."""
    (tmp_path / "words.txt").write_text("0s A panda walks\n" * 20)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
    write_sound(tmp_path / "sound.m4a")
    for name, words in (
        ("words.txt", "neither a picture nor a video"),
        ("empty.mp4", "neither a picture nor a video"),
        ("drawing.svg", "an unknown codec"),
        ("sound.m4a", "contains only sound"),
    ):
        with pytest.raises(ValueError, match=words):
            levels(tmp_path / name)


# --- orientation

UPRIGHT = {
    (1, 0, 0, 1): (0, 1, 2, 3),
    (-1, 0, 0, 1): (1, 0, 3, 2),
    (1, 0, 0, -1): (2, 3, 0, 1),
    (-1, 0, 0, -1): (3, 2, 1, 0),
    (0, 1, 1, 0): (0, 2, 1, 3),
    (0, 1, -1, 0): (2, 0, 3, 1),
    (0, -1, 1, 0): (1, 3, 0, 2),
    (0, -1, -1, 0): (3, 1, 2, 0),
}


@pytest.mark.parametrize("ending", ["mp4", "mov"])
@pytest.mark.parametrize("matrix", UPRIGHT)
def test_a_clip_is_turned_as_its_matrix_says(tmp_path, ending, matrix):
    """Forbids films of phones that are turned sideways, upside down or mirrored."""
    path = write_clip(tmp_path / f"clip.{ending}", four_corners()[None].repeat(2, 0), codec="libx264")
    assert close(corners(turn(path, *matrix)), [CORNERS[place] for place in UPRIGHT[matrix]])
    frame = next(open_film(path, "0s a").frames())
    assert frame.shape[:2] == ((64, 48) if matrix[0] == 0 else (48, 64))
    assert close(frame[4, 4], CORNERS[UPRIGHT[matrix][0]])


def test_an_angle_that_is_no_quarter_turn_is_named(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", four_corners()[None], codec="libx264")
    notes = []
    assert close(corners(turn(path, 0.8, 0.6, -0.6, 0.8), notes), CORNERS) and "not a quarter turn" in notes[0]


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    """Forbids squeezed pictures of anamorphic clips."""

    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    picture = np.zeros((1, 96, 64, 3), np.uint8)
    picture[:, :, 8:16] = 255
    path = write_clip(tmp_path / "clip.mp4", picture, codec="libx264", set_up=wide)
    bright = read_clip(path, (128, 96), 16)[0, 50, :, 0] > 0.5
    assert (int(bright.nonzero()[0]), int(bright.nonzero()[-1])) == (16, 31)


# --- colours

MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # tag: weights of red and blue


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("tag", "height", "weights"), [(1, 48, 1), (6, 48, 6), (9, 48, 9), (None, 48, 6), (None, 720, 1)]
)
def test_colours_come_back_whatever_they_are_coded_in(tmp_path, full, tag, height, weights):
    """Forbids BT.709 read as 601, washed-out full range, and untagged HD read as SD."""
    red, blue = MATRICES[weights]
    r, g, b = (200 / 255, 40 / 255, 90 / 255)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    coded = (255 * y, 255 * u + 128, 255 * v + 128) if full else (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)
    path = _write_planes(tmp_path / "clip.mp4", coded, (64, height), tag, 2 if full else 1)
    assert close((read_clip(path, SIZE, 16)[0, 20, 20] * 255).round().int().tolist(), (200, 40, 90), 3)


def _write_planes(path, coded, size, matrix, limits):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height = size
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "1"}
        stream.codec_context.color_range = limits
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        frame = av.VideoFrame(*size, "yuv420p")
        for plane, value in zip(frame.planes, coded, strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        frame.pts, frame.color_range = 0, limits
        if matrix is not None:
            frame.colorspace = matrix
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_ten_bits_are_read(tmp_path):
    """Forbids levels off by a factor of four."""
    path = write_clip(tmp_path / "clip.mov", four_corners()[None], codec="prores_ks")
    assert close(corners(path), CORNERS)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_named(tmp_path, transfer, name):
    """Forbids the pale colours of an HDR clip that is read as if it were none."""

    def tag(stream):
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, 9

    path = write_clip(tmp_path / "clip.mp4", four_corners()[None], codec="libx264", set_up=tag)
    with pytest.raises(ValueError, match=f"is HDR video, {name}.*convert it to SDR"):
        corners(path)


def test_wide_colours_are_named(tmp_path):
    path = write_clip(
        tmp_path / "clip.mp4",
        four_corners()[None],
        codec="libx264",
        set_up=lambda stream: setattr(stream.codec_context, "color_primaries", 9),
    )
    notes = []
    corners(path, notes)
    assert len(notes) == 1 and "BT.2020" in notes[0]


TRANSPARENT = {"mov": ("prores_ks", "yuva444p10le"), "mkv": ("ffv1", "yuva420p"), "webm": ("libvpx-vp9", "yuva420p")}


@pytest.mark.parametrize("ending", TRANSPARENT)
def test_transparent_places_are_white_and_that_is_said(tmp_path, ending):
    """Forbids the colour below transparent places."""
    codec, pixels = TRANSPARENT[ending]
    picture = np.concatenate([four_corners(), np.full((48, 64, 1), 255, np.uint8)], axis=-1)
    picture[:, :32, 3] = 0
    path = write_clip(tmp_path / f"clip.{ending}", picture[None].repeat(2, 0), codec=codec, pixels=pixels)
    notes = []
    white = (255, 255, 255)
    assert close(corners(path, notes), (white, CORNERS[1], white, white)) and "white here" in notes[0]


def test_interlaced_clips_are_not_combed(tmp_path):
    """Forbids two moments in one picture, and silently losing half of it."""
    frames = np.zeros((6, 48, 64, 3), np.uint8)
    frames[:, ::2, 8:24] = 255
    frames[:, 1::2, 40:56] = 255
    path = write_clip(tmp_path / "clip.mp4", frames, 25, codec="libx264", options={"x264-params": "tff=1", "crf": "2"})
    notes = []
    picture = read_clip(path, SIZE, 25, notes.append)[0, 8:40].mean(dim=-1)
    assert picture[:, 10:22].min() > 0.9 and picture[:, 42:54].max() < 0.1
    assert len(notes) == 1 and "is interlaced" in notes[0]


# --- films that are measured


def test_a_film_of_no_constant_rate_is_not_measured(tmp_path):
    """Forbids prompts scored beside their frames."""
    stamps = np.arange(64) + np.where(np.arange(64) > 15, 30, 0)
    film = open_film(write_clip(tmp_path / "film.mp4", ramp(64), stamps=stamps, codec="libx264"), "0s a")
    with pytest.raises(ValueError, match="no constant frame rate: its frame"):
        list(film.frames())
    late = open_film(write_clip(tmp_path / "late.mp4", ramp(64), stamps=np.arange(64) + 160, codec="libx264"), "0s a")
    assert len(list(late.frames())) == 64
