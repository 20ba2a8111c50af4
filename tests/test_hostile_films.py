"""Films that are meant to harm their reader: refused in one line, in bounded time and memory."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longlive_core import cli
from longlive_core.config import StreamConfig
from longlive_core.film import boxes, read_tags
from longlive_core.film.footage import open_footage
from longlive_core.film.read_tags import read_film
from longlive_core.film.tags import FilmRecord, film_metadata, plan_again
from longlive_core.film.video import FilmWriter
from longlive_core.timeline import parse

STORY = "0s A panda walks\n1s A panda sits {cut}"
TAGS = film_metadata(STORY, parse(STORY).plan(3), StreamConfig(), 7, (96, 64), "pocket")
RUN = json.loads(TAGS["longlive"])
DEEP, DIGITS = 100_000, "9" * 5000


def film(path, **tags):
    """A small film with these tags; those of a good film where none are given."""
    with FilmWriter(path, 32, 16, metadata={**TAGS, **tags}) as writer:
        writer.write(np.zeros((1, 16, 32, 3), np.uint8))
    return path


def run_with(**changes) -> str:
    return json.dumps({**RUN, **changes})


def segment_with(**changes) -> str:
    return run_with(segments=[{**RUN["segments"][0], **changes}, *RUN["segments"][1:]])


def in_json(name: str, literal: str) -> str:
    """The record with a field written in a way of its own."""
    return run_with(**{name: "HERE"}).replace('"HERE"', literal)


HOSTILE = {
    "lists in lists": "[" * DEEP,
    "objects in objects": '{"a":' * DEEP,
    "deep, and closed": '{"format": 1, "x": ' + "[" * DEEP + "]" * DEEP + "}",
    "deep in a segment": in_json("segments", "[" * DEEP + "]" * DEEP),
    **{
        f"{name} of 5000 digits": in_json(name, DIGITS)
        for name in ("seed", "chunks", "fps", "width", "format", "shift", "window", "given")
    },
    **{
        f"{name} of 4000 digits": in_json(name, DIGITS[:4000])
        for name in ("seed", "chunks", "fps", "width", "format", "shift", "chunk", "given")
    },
    **{
        f"{name} {literal}": in_json(name, literal)
        for name in ("fps", "shift", "seed", "chunks", "given")
        for literal in ("NaN", "Infinity", "-Infinity", "1e999", "-1", "null", "true", '"1"', "[]", "{}")
    },
    **{
        f"{name} of another type": in_json(name, literal)
        for name in ("model", "positions", "sink_policy", "segments", "denoising_steps", "width", "window")
        for literal in ("{}", "1.5", "null")
    },
    "steps that are texts": run_with(denoising_steps=["1000", "500"]),
    "steps that are lists": run_with(denoising_steps=[[1000]]),
    "a segment before the first": segment_with(chunk=-1),
    "a segment past the end": segment_with(chunk=10**9),
    "segments that do not rise": run_with(segments=[RUN["segments"][0]] * 3),
    "segments of lists": run_with(segments=[[]] * 1000),
    "a transition that is a list": segment_with(transition=[]),
    "a transition of no kind": segment_with(transition="fade"),
    "a text that is a number": segment_with(text=7),
    "half a letter": segment_with(text="a\ud800"),
    "a time that is NaN": segment_with(requested_seconds=float("nan")),
    "a time that is a text": segment_with(requested_seconds="0"),
    "a blend of half": segment_with(blend=0.5),
    "a huge blend": segment_with(blend=10**30),
    "a negative seed": segment_with(seed=-1),
    "more chunks than a day has": run_with(chunks=200_000),
    "no object": "7",
    "nothing": "",
    "not JSON": "\x1b]0;title\x07",
}


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_record_is_one_line(tmp_path, record, capsys):
    """Forbids a traceback, a message of any length, and one that writes what the file says to the terminal as it is."""
    path = film(tmp_path / "film.mp4", longlive=record)
    with pytest.raises(ValueError, match="is damaged|newer version") as caught:
        read_film(path)
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()
    assert cli.main(["render", str(path), "-o", str(tmp_path / "again.mp4")]) == cli.USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and said[:-1].isprintable()


def test_bytes_that_are_no_unicode(tmp_path):
    """Forbids rendering a film again with other letters than its own."""
    for tag in ("comment", "longlive"):
        path = film(tmp_path / "film.mp4")
        whole = path.read_bytes()
        at = whole.index(b"panda", whole.index(TAGS[tag][:12].encode()))
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        with pytest.raises(ValueError, match=f"its tag {tag} is not Unicode text"):
            read_film(path)


def test_a_long_tag_is_not_parsed(tmp_path, monkeypatch):
    """Forbids reading any length into memory as objects, which take 25 times as much as the text."""
    monkeypatch.setattr(read_tags, "LONGEST_TAG", 2000)
    for tags in ({"longlive": run_with(more="x" * 2000)}, {"comment": STORY + "x" * 2000}):
        with pytest.raises(ValueError, match="characters, and at most 2000 are read"):
            read_film(film(tmp_path / "film.mp4", **tags))
    assert read_film(film(tmp_path / "film.mp4")).timeline == STORY


def test_a_file_that_is_nothing_but_tags(tmp_path, monkeypatch):
    """Forbids reading all of a huge file of another kind in search of its pictures."""
    monkeypatch.setattr(read_tags, "MOST_READ", 100)
    with pytest.raises(ValueError, match="it has too much data before its pictures"):
        read_film(film(tmp_path / "film.mp4"))


def box(kind: bytes, content: bytes = b"", claimed: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(content) if claimed is None else claimed, kind) + content


LARGE = {
    "an index": box(b"moov", claimed=boxes.LARGEST_INDEX + 9),
    "an index in 64 bits": struct.pack(">I4sQ", 1, b"moov", 2**40),
    "an index of 2^63": struct.pack(">I4sQ", 1, b"moov", 2**63 + 1),
    "tags": box(b"moov", box(b"udta", claimed=boxes.LARGEST_TAGS + 9)),
    "tags in 64 bits": box(b"moov", struct.pack(">I4sQ", 1, b"meta", 2**50)),
    "tags behind others": box(b"moov", box(b"udta", bytes(100)) + box(b"meta", claimed=2**31)),
    "tags of the file": box(b"meta", claimed=2**32 - 1),
    "behind pictures": box(b"mdat", bytes(64)) + box(b"udta", claimed=2**31),
    "a fragment": box(b"moov") + box(b"moof", claimed=2**31),
}


@pytest.mark.parametrize("content", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("reader", [read_film, lambda path: open_footage(path).__enter__()], ids=["record", "pictures"])
def test_what_a_file_claims_is_bounded(tmp_path, content, reader):
    """Forbids setting gigabytes aside because a file of a few bytes says that it has them."""
    (tmp_path / "film.mp4").write_bytes(box(b"ftyp", b"isom" + bytes(4)) + content)
    with pytest.raises(ValueError, match="takes [0-9]+ bytes, and at most [0-9]+ are read"):
        reader(tmp_path / "film.mp4")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 3,
        b"\0" * 4096,
        box(b"ftyp"),
        box(b"ftyp", claimed=7),
        box(b"moov", claimed=0),
        box(b"ftyp") + box(b"moov", claimed=3) * 1000,
        box(b"ftyp") + b"\0" * 4096,
        box(b"mdat", claimed=0),
        box(b"ftyp") + box(b"moov", box(b"trak", claimed=2)),
    ],
)
def test_impossible_boxes_end(tmp_path, content):
    """Forbids walking forever over boxes without a size."""
    (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="is not a video"):
        read_film(tmp_path / "film.mp4")


def test_bytes_behind_a_film_do_not_matter(tmp_path):
    """Forbids refusing films that were cut off, or have something behind their last box, which players show."""
    path = film(tmp_path / "film.mp4")
    whole = path.read_bytes()
    for content in (whole + b"\0" * 999, whole + b"\0\0\0\1junk", whole + box(b"junk", b"x" * 99)):
        path.write_bytes(content)
        assert read_film(path).timeline == STORY


def test_pictures_of_any_size_do_not_count(tmp_path):
    """Forbids refusing a long film for its length."""
    path = film(tmp_path / "film.mp4")
    with path.open("ab") as file:
        file.write(struct.pack(">I4sQ", 1, b"mdat", 16 + 2**33))
        file.truncate(file.tell() + 2**33)  # of nothing, on disks that know holes
    assert read_film(path).timeline == STORY


def test_too_many_boxes(tmp_path, monkeypatch):
    """Forbids hours over a file of empty boxes."""
    monkeypatch.setattr(boxes, "MOST_BOXES", 10)
    (tmp_path / "film.mp4").write_bytes(box(b"ftyp") + box(b"free") * 11)
    with pytest.raises(ValueError, match="more than 10 boxes"):
        read_film(tmp_path / "film.mp4")


MEMORY = """
import sys
from longlive_core.film.read_tags import read_film

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
for path in sys.argv[1:]:
    try:
        read_film(path)
    except ValueError as error:
        print(error, file=sys.stderr)
    print((peak() - before) // 1024, end=" ")
"""
GREEDY = {
    "deep": "[" * 10**7,
    "letters": '"' + "\U0001f600" * (boxes.LARGEST_TAGS // 4 - 4096) + '"',
    "many": '{"format":1,"x":[' + "[],{}," * boxes.MIB + "0]}",
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_memory_is_bounded(tmp_path):
    """Forbids a film that takes the machine's memory from who looks at it; measured in a process of its own."""
    paths = [film(tmp_path / f"{name}.mp4", longlive=tag) for name, tag in GREEDY.items()]
    ended = subprocess.run([sys.executable, "-c", MEMORY, *map(str, paths)], capture_output=True, text=True)
    assert ended.returncode == 0 and ended.stderr.count("\n") == len(GREEDY), ended.stderr
    print(dict(zip(GREEDY, ended.stdout.split(), strict=True)), "MB at most so far")
    assert max(map(int, ended.stdout.split())) < 400


def test_thousands_of_segments(tmp_path):
    """Forbids work that grows with the square of the prompts, where it can be seen: each place is found by halving."""
    count = 2000
    lines = (f"{chunk}c {'ball' if chunk % 2 else 'cube'}{' {cut}' * (chunk > 0)}" for chunk in range(count))
    text = "\n".join(lines)
    plan = parse(text).plan(None, 16, 3)
    tags = film_metadata(text, plan, StreamConfig(positions="relative"), 0, (96, 64), "pocket")
    run = read_film(film(tmp_path / "film.mp4", **tags))
    assert plan_again(parse(run.timeline), run).chunks == plan.chunks
    assert [run.start_frame(s.start_chunk) for s in plan.segments] == [s.start_frame for s in plan.segments]


def test_places_in_a_film_of_many_shots():
    """Forbids a shorter sum that gives other frames: it is that of every shot's length."""
    cuts = [2, 3, 7]
    segments = tuple({"chunk": chunk, "transition": "cut"} for chunk in (0, *cuts))
    run = FilmRecord("", 16, 9, 0, (96, 64), StreamConfig(chunk=3), "", segments)
    lengths = [12 * (end - start) - 3 for start, end in zip([0, *cuts], [*cuts, 9], strict=True)]
    assert [run.start_frame(cut) for cut in (0, *cuts, 9)] == [sum(lengths[:n]) for n in range(5)]
    assert run.start_frame(1) == 9 and run.start_frame(4) == sum(lengths[:2]) + 9


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "[" * DEEP,
        "7",
        "[]",
        "null",
        DIGITS,
        "{}",
        '{"chunk": 0, "frames": 1}',
        '{"window": [], "arch": 7}',
        '{"window": 9, "sink": 3, "chunk": 3, "shift": "5", "keep_sink": 1, "rope": {}, "denoising_steps": 4}',
    ],
)
def test_a_hostile_recording_is_one_line(tmp_path, capsys, config):
    """Forbids a traceback for another person's recording."""
    path = tmp_path / "recording.safetensors"
    save_file({"model.x": torch.zeros(2)}, path, None if config is None else {"config": config})
    assert cli.main(["replay", str(path), str(tmp_path / "out.safetensors")]) == cli.USER_ERROR
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and str(path) in said
    assert not (tmp_path / "out.safetensors").exists()
