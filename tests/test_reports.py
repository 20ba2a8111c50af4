"""What nodes show below themselves."""

import re
import time
from types import SimpleNamespace

import pytest

from longlive_core.run import reports
from longlive_core.run.speed import Speed
from longlive_core.takes import TakeStore, labels

from .made_takes import manifest, place

LONG = "A red fox with a white-tipped tail walks slowly through the deep snow of a pine forest towards the camera"
NOON = 1_732_802_520.0  # seconds since 1970
FACTS = {
    "seconds": 5.0625,
    "frames": 81,
    "fps": 16.0,
    "chunks": 7,
    "chunks_asked": 7,
    "width": 128,
    "height": 80,
    "ended": "complete",
    "frames_per_second": 9.53,
    "render_seconds": 8.5,
    "take": "0953855a605a",
    "no_effect": [],
    "hints": [],
    "repaired": "",
}


def film(reused: int = 0, reason: str | None = None, **facts) -> list[str]:
    return reports.film_report({**FACTS, **facts}, reused, reason).splitlines()


def expected(made: int = 7, seconds: float | None = 1.2, to_remove: int = 0, int8: bool = False, moving: int = 0):
    speed = None if seconds is None else Speed(None, seconds, 0.0, "2025-01-31")
    return SimpleNamespace(
        made=made,
        speed=speed,
        seconds=None if speed is None else made * seconds,
        plan=SimpleNamespace(chunks=7),
        available=10**9,
        limit=SimpleNamespace(to_remove=to_remove),
        need=SimpleNamespace(proposes_int8=lambda room: int8, saved_by_int8=1_400_000_000, moving=moving),
    )


def test_film():
    """Forbids figures that were not requested; a first render has no chunks to reuse."""
    assert film() == ["5.06 s: 81 frames, 128x80", "rendered in 8.5 s, 9.5 frames/s", "take 0953855a605a"]
    assert film(6, "prompt 3 changed")[2] == "prompt 3 changed: 6 of 7 chunks reused"
    assert film(7, frames_per_second=None) == ["5.06 s: 81 frames, 128x80", "7 of 7 chunks reused", "take 0953855a605a"]
    assert film(0, "the seed changed", chunks_asked=1)[2] == "the seed changed: 0 of 1 chunk reused"


def test_repairs_are_one_line():
    """Forbids repairs that are not reported, and a line for each of them."""
    line = reports.repaired_line({12: False, 3: True, 4: True})
    assert (
        line
        == "3 stored chunks were damaged or missing (3, 4: rendered again; 12: video encoded again from the latents)"
    )
    assert film(repaired=line)[2] == line
    assert reports.repaired_line({}) == "" and "1 stored chunk was" in reports.repaired_line({0: True})
    assert reports.repaired_line(dict.fromkeys(range(20), True)).endswith("5, 6, 7 and 12 more: rendered again)")


@pytest.mark.parametrize(
    ("ended", "facts", "line"),
    [
        ("cancelled", {"chunks": 3}, "cancelled after 3 of 7 chunks: queue again to continue"),
        ("finished", {"chunks": 3}, "finished by hand after 3 of 7 chunks"),
        ("finished", {"chunks": 1, "chunks_asked": None}, "finished by hand after 1 chunk"),
        (
            "no_room",
            {"chunks": 4, "no_room": "the limit of 1.0 GB is reached"},
            "ended after 4 of 7 chunks: the limit of 1.0 GB is reached",
        ),
        (
            "full",
            {"chunks_asked": None},
            "ended by itself: absolute positions end here; relative ones have no end",
        ),
        (
            "longest",
            {"chunks_asked": None},
            "ended by itself: a film has at most 24 hours and 350000 chunks; start another "
            "one from its last latents or its last frame (Take Frames)",
        ),
    ],
)
def test_ends(ended, facts, line):
    """Forbids a deliberate Finish that is reported as a failure."""
    lines = film(ended=ended, **facts)
    assert lines[1] == line and "early" not in "\n".join(lines)


def test_an_endless_film_counts_no_requested_chunks():
    """Forbids "3 of 7 chunks" where there is no seven."""
    lines = film(2, "it was not finished", ended="finished", chunks=3, chunks_asked=None)
    assert not any("reused" in line or " of " in line for line in lines)


def test_long_names_are_shortened_in_the_middle():
    """Forbids a name that is wider than the node, and one that has lost its end."""
    name = "part diffusion_model." + "x" * 80 + ".forward"
    (line,) = [line for line in film(no_effect=[f"{name}: nothing here reads it: really"]) if "effect" in line]
    assert line == "no effect here: part diffusion_model.x…xxxxxxxxxxxxx.forward: nothing here reads it: really"


def test_beginning():
    """Forbids too many figures, and a folder's path, while the first chunk is rendered."""
    say = reports.beginning_report
    assert say(expected(), 0, None, False, []) == "rendering 7 chunks, about 8 s"
    assert say(expected(1), 6, "prompt 3 changed", False, ["a: b"]).splitlines() == [
        "prompt 3 changed: 6 of 7 chunks reused",
        "rendering 1 chunk, about 1 s",
        "no effect here: a: b",
    ]
    assert say(expected(0), 7, None, False, []).splitlines()[1] == "nothing to render: every chunk is stored"
    assert say(expected(seconds=None), 0, None, False, []) == "rendering 7 chunks, time not measured here yet"
    told = say(expected(to_remove=2 * 10**9, int8=True, moving=3 * 10**8), 0, None, False, []).splitlines()
    assert told[1:] == [
        "memory is short: 300 MB wait in main memory while not in use",
        "faster with Quantize INT8: the model then takes 1.4 GB less",
        "2.0 GB of other takes will be removed, to keep to the limit",
    ]


def test_endless_beginning_claims_no_length():
    """Forbids a time for a film without end."""
    assert reports.beginning_report(expected(), 0, None, True, []) == "renders until Finish, about 1.2 s a chunk"
    assert reports.beginning_report(expected(seconds=None), 3, "a", True, []) == "renders until Finish"


def test_progress():
    """Forbids a line that does not say how far, how long, and what is shown."""
    status = {
        "chunks_done": 5,
        "chunks": 7,
        "frames": 57,
        "frames_per_second": 9.83,
        "eta_seconds": 2.9,
        "segment": {"text": LONG},
    }
    first, second = reports.progress_line(status, 16.0).splitlines()
    assert first == "5 of 7 chunks, 3 s left, 9.8 frames/s"
    assert second == "A red fox with a white-tipped tail walks slowly through the deep snow of a pine…"
    endless = {**status, "chunks": None, "chunks_done": 1, "frames": 9, "eta_seconds": None, "frames_per_second": None}
    assert reports.progress_line(endless, 16.0).splitlines()[0] == "1 chunk, 0.56 s"


def test_take_in_a_list(tmp_path):
    """Forbids a choice between hashes."""
    take = manifest(0xABCDEF, f"0s {LONG}\n4s A ball {{cut}}", 8, used=NOON)
    label = labels.take_label(take, len(take.keys))
    assert re.fullmatch(
        r"2024-11-2\d \d\d:\d\d · 8\.6 s · 128x80 · A red fox with a white-tipped tail walks slowly… "
        rf"\[{take.id}\]",
        label,
    ), label
    assert " · 2.1 of 8.6 s · " in labels.take_label(take, 3)


def test_takes_the_last_one_first_and_damaged_ones_last(tmp_path):
    """Forbids a list that one bad file empties, or that hides that file; and one in the order of a hash."""
    store = TakeStore(tmp_path / "store")
    takes = [manifest(number, f"A ball {number}", 4, used=used) for number, used in ((1, 1e5), (2, 3e5), (3, 2e5))]
    for take in takes:
        place(store, take, 2)
    for number, content in ((4, b"{"), (5, b'{"format": 99}'), (6, None)):
        folder = store.take_folder(f"{number:012x}")
        folder.mkdir()
        if content is not None:
            (folder / "take.json").write_bytes(content)
    listed = labels.take_choices(store)
    assert [label[-14:] for label in listed[:3]] == [f"[{takes[number].id}]" for number in (1, 2, 0)]
    assert all(" · 1.3 of 4.3 s · 128x80 · A ball " in label for label in listed[:3])
    assert sorted(listed[3:]) == [f"cannot be read [{number:012x}]" for number in (4, 5)]  # 6 is empty


def test_a_take_that_is_dated_ahead_is_not_the_newest(tmp_path):
    """Forbids that one wrong clock puts a take before all that are rendered later, for years."""
    store, now = TakeStore(tmp_path / "store"), time.time()
    ahead = manifest(1, "A ball", 4, used=now + 3e7)
    takes = [ahead, manifest(2, "A ball", 4, used=now - 60), manifest(3, "A ball", 4, used=now + 60)]
    for take in takes:
        place(store, take)
    listed = labels.take_choices(store)
    assert [label[-13:-1] for label in listed] == [takes[2].id, takes[1].id, ahead.id]
    assert "(dated ahead)" in listed[2] and not any("ahead" in label for label in listed[:2])
    assert [take.id for take in store.takes()] == [takes[2].id, takes[1].id, ahead.id]


def test_a_long_list_reads_each_folder_once(tmp_path, monkeypatch):
    """Forbids a look at the disk for every chunk of every take: 1000 takes of 240 s have 321 000."""
    store = TakeStore(tmp_path / "store")
    for number in range(1, 30):
        place(store, manifest(number, "A ball", 20, used=number), 3)
    monkeypatch.setattr(TakeStore, "has_latents", lambda self, key: pytest.fail("asked for one chunk"))
    assert len(labels.take_choices(store)) == 29


def test_branch():
    """Forbids a branch that does not say where it really is."""
    take = manifest(1, "0s A red ball\n4s A blue ball {cut}", 8)
    assert labels.branch_report(take, at_place(take, "2s")).splitlines() == [
        "branched at 2.06 s (2 s requested): 3 chunks stay",
        "ends with: A red ball",
        f"take {take.id}",
    ]
    assert labels.branch_report(take, at_place(take, "1c")).splitlines()[0] == "branched at 0.56 s: 1 chunk stays"
    assert "A blue ball" in labels.branch_report(take, at_place(take, "7c"))


def at_place(take, text):
    from longlive_core.takes import find_branch_point

    return find_branch_point(take, text)


def test_take():
    """Forbids a path, or a take that cannot be distinguished from another."""
    take = manifest(1, "A red ball", 4, used=NOON)
    lines = labels.take_report(take, 1).splitlines()
    assert lines[:2] == ["0.56 s: 1 chunk, 128x80", "A red ball"]
    assert lines[2].startswith(f"take {take.id} of 2024-11-2")
