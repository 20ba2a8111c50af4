"""Manifests as data from outside: anything in their place is one line in a list, and affects nothing else."""

import json
import os
import random

import pytest

from longlive_core import cli
from longlive_core.config import StreamConfig
from longlive_core.film.video import Encoding
from longlive_core.takes import (
    Manifest,
    Origin,
    TakeError,
    TakeMissing,
    TakeStore,
    VaeIdentity,
    labels,
    plan_take,
    reuse,
)
from longlive_core.takes.differences import closest_difference
from longlive_core.takes.manifest import take_id
from longlive_core.takes.manifest_file import MOST_BYTES, manifest_bytes
from longlive_core.timeline import parse

from .damaged_takes import KINDS, STORY, all_damage, changed, contents, fits, obstacles, places_in, real, spoiled
from .made_takes import manifest, place
from .test_stores import STORES, TAKES

OLD = [STORES / "format_1" / "takes" / take / "take.json" for take in TAKES]


@pytest.fixture
def store(tmp_path):
    return TakeStore(tmp_path / "store")


def put(store, take: str, data: bytes) -> None:
    folder = store.take_folder(take)
    folder.mkdir(exist_ok=True)
    (folder / "take.json").write_bytes(data)


def read(store, take: str) -> Manifest | TakeError:
    try:
        return store.read_manifest(take)
    except TakeError as error:
        assert error.take == take
        return error


def outcome(store, take: str) -> Manifest | TakeError:
    """What is read of the only take of a store; all who read it agree."""
    found, (listed,) = read(store, take), store.takes()
    assert listed == found or (str(listed), listed.take) == (str(found), take)
    return found


def usable(store, take: Manifest) -> None:
    """Use a take that was read: this works, or reports that it is damaged."""
    labels.take_label(take, 1)
    labels.take_report(take, 1)
    store.size_of(take)
    other = manifest(9, "0s A red ball", 4)
    closest_difference(store, other, [other.origin])
    try:
        take.plan()
    except TakeError as error:
        assert "is damaged" in str(error)


def test_a_manifest_is_read_as_it_was_written(store):
    """Forbids a file that says less than the take."""
    take = real()
    store.write_manifest(take)
    assert store.read_manifest(take.id) == take
    lines = (store.take_folder(take.id) / "take.json").read_text(encoding="utf-8").splitlines()
    assert lines[1] == ' "format": 2,' and len(lines) == len(vars(take)) + 4  # a line each, for people


@pytest.mark.parametrize("version", [1, 2])
def test_every_field_with_every_wrong_value(store, version):
    """Forbids a field that is not checked before it is used. A value of the right type is accepted or refused."""
    take, taken = real(), 0
    for at in places_in(vars(take)):
        for kind, text in KINDS.items():
            put(store, take.id, changed(vars(take), at, text, version))
            found = read(store, take.id)
            if isinstance(found, Manifest):
                assert fits(at, kind), (at, kind)
                usable(store, found)
                taken += 1
            else:
                assert take.id in str(found) and len(str(found)) < 1000
    assert taken > 20


@pytest.mark.parametrize("version", [1, 2])
def test_every_field_left_out_or_too_many(store, version):
    """Forbids a KeyError, and a setting of a later version that is passed over."""
    take = real()
    optional = {("given",), ("created",), ("used",)} if version == 1 else set()
    optional |= {("segments", 2, "blend")}
    for at in places_in(vars(take)):
        fields = json.loads(json.dumps(vars(take)))
        inside = fields
        for name in at[:-1]:
            inside = inside[name]
        if not isinstance(inside, dict):
            continue
        kept = inside.pop(at[-1])
        put(store, take.id, rewritten(fields, version))
        assert isinstance(outcome(store, take.id), Manifest) == (at in optional), at
        inside[at[-1]], inside["unheard of"] = kept, 1
        put(store, take.id, rewritten(fields, version))
        assert "unheard of' is not a field known to this version); update the pack" in str(outcome(store, take.id))


def rewritten(fields: dict, version: int) -> bytes:
    """The file of these fields, with a right checksum."""
    name = "timeline" if "timeline" in fields else "id"
    return changed(fields, (name,), json.dumps(fields[name]), version)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda take: take.segments.reverse(), "its prompts begin at the chunks"),
        (lambda take: take.segments[0].update(chunk=1), "allowed: from 0, increasing"),
        (lambda take: take.segments[1].update(chunk=0), "allowed: from 0, increasing"),
        (lambda take: take.segments[2].update(chunk=17), "below 17"),
        (lambda take: take.segments[1].update(chunk=7), "its shots begin at the chunks"),
        (lambda take: take.segments[1].update(transition="keep"), "its cuts are at"),
        (lambda take: take.shots.append(["0" * 32]), "its cuts are at"),
        (lambda take: take.shots[0].__setitem__(0, "0" * 32), "its id is not that of its chunks"),
        (lambda take: take.shots[0].__setitem__(0, "A" * 32), "32 hexadecimal digits"),
        (lambda take: take.shots[0].__setitem__(0, "../" * 10 + "ab"), "32 hexadecimal digits"),
        (lambda take: setattr(take, "unit", "../../ab"), "8 hexadecimal digits"),
        (lambda take: setattr(take, "unit", "00000002"), "its id is not that of its chunks"),
        (lambda take: setattr(take, "given", 18), "18 given chunks, but has 17"),
        (lambda take: take.encoding.update(width=64), "another size"),
        (lambda take: take.encoding.update(fps=0), "encoding.fps is 0: a number from"),
        (lambda take: setattr(take, "created", 1e11), "created is 100000000000.0"),
        (lambda take: setattr(take, "used", float("nan")), "used is nan"),
        (lambda take: setattr(take, "timeline", "x" * 2**25), "timeline has 33554432 characters"),
        (lambda take: setattr(take, "timeline", "a\ud800"), "half of a surrogate pair"),
    ],
)
def test_fields_that_contradict_each_other(store, change, words):
    """Forbids reading such a take, and writing it: it could not be read again."""
    take = real()
    change(take)
    with pytest.raises(TakeError, match="cannot be kept") as kept:
        store.write_manifest(take)
    assert words in str(kept.value)
    if "half" not in words and "nan" not in words:
        put(store, real().id, changed({**vars(take), "id": ""}, ("id",), json.dumps(real().id)))
        assert words in str(outcome(store, real().id))


def test_every_file_that_is_no_manifest(store):
    """Forbids an error that is not a TakeError, and a file that is read to its end before its size is known."""
    take = real()
    for name, data in contents(manifest_bytes(take)).items():
        put(store, take.id, data)
        found = outcome(store, take.id)
        assert isinstance(found, TakeError), name
        assert ("update the pack" in str(found)) == name.startswith("format"), name
        assert ("is a duplicate" in str(found)) == (name == "twice")
        assert f"takes remove {take.id}" in str(found) and "render its timeline again" in str(found)


@pytest.mark.parametrize("name", obstacles())
def test_what_lies_in_the_place_of_a_manifest(store, name):
    """Forbids waiting for a pipe, reading a device, and a way to a file outside; and it must disappear by itself."""
    take = real()
    place(store, take, 2)
    path = store.take_folder(take.id) / "take.json"
    path.unlink()
    obstacles()[name](path, take)
    found = read(store, take.id) if name == "nothing" else outcome(store, take.id)
    assert isinstance(found, TakeError) and isinstance(found, TakeMissing) == (name == "nothing")
    assert {
        "a pipe": "it is not a file",
        "a link to a device": "it is not a file",
        "a dead link": "a link to nothing",
        "a huge file": f"it has {2**40} bytes",
    }.get(name, "") in str(found)
    store.write_manifest(take)
    assert outcome(store, take.id) == take


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
@pytest.mark.parametrize(
    "make",
    [
        lambda folder: folder.write_bytes(b""),
        lambda folder: folder.symlink_to("nowhere"),
        lambda folder: folder.symlink_to(folder.name),
        os.mkfifo,
    ],
    ids=["file", "dead link", "loop", "pipe"],
)
def test_what_lies_in_the_place_of_a_folder(store, make):
    """Forbids a take that can neither be read nor rendered again."""
    take = real()
    make(store.take_folder(take.id))
    assert isinstance(outcome(store, take.id), TakeError)
    store.write_manifest(take)
    assert outcome(store, take.id) == take


def test_a_folder_that_another_disk_holds(store, tmp_path):
    """Forbids refusing a take whose folder was moved and linked."""
    take = real()
    store.write_manifest(take)
    folder = store.take_folder(take.id)
    try:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    except OSError:
        pytest.skip("needs links")
    assert outcome(store, take.id) == take


def test_a_manifest_under_another_name(store):
    """Forbids two takes of one id."""
    take = real()
    put(store, "0" * 12, manifest_bytes(take))
    assert f"says that it is take {take.id}" in str(outcome(store, "0" * 12))


@pytest.mark.parametrize("path", [None, *OLD], ids=["format 2", *TAKES])
def test_cut_anywhere(store, path):
    """Forbids taking a part of a file for a take."""
    data = manifest_bytes(real()) if path is None else path.read_bytes()
    take = real().id if path is None else path.parent.name
    for size in range(0, len(data.rstrip()), 2 if path is None else 9):
        put(store, take, data[:size])
        assert isinstance(read(store, take), TakeError), size


def test_no_bit_flips_without_being_noticed(store):
    """Forbids another text, number or key than was written, wherever the disk forgot a bit."""
    take, chance = real(), random.Random(18)
    data = manifest_bytes(take)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << chance.randrange(8)
        put(store, take.id, bytes(flipped))
        found = read(store, take.id)
        assert isinstance(found, TakeError) or found == take, (at, data[at : at + 1], flipped[at])


@pytest.mark.parametrize("path", OLD, ids=TAKES)
def test_bits_that_flip_in_format_1(store, path):
    """Forbids keys or a unit's name that are not those of the take, and a fault elsewhere than in what is read."""
    chance, data, take = random.Random(1), path.read_bytes(), path.parent.name
    put(store, take, data)
    good = store.read_manifest(take)
    for at in range(0, len(data), 4):
        flipped = bytearray(data)
        flipped[at] ^= 1 << chance.randrange(8)
        put(store, take, bytes(flipped))
        found = read(store, take)
        if isinstance(found, Manifest):
            assert (found.shots, found.unit, found.id) == (good.shots, good.unit, good.id)
            usable(store, found)


def test_bytes_that_were_overwritten(store):
    """Forbids a hole in the middle of a file that is read as if there were none."""
    take, chance = real(), random.Random(2)
    data = manifest_bytes(take)
    for _ in range(300):
        begin = chance.randrange(len(data) - 1)
        end = min(len(data) - 1, begin + chance.randrange(1, 600))
        filler = {0: bytes(end - begin), 1: chance.randbytes(end - begin), 2: b""}[chance.randrange(3)]
        put(store, take.id, data[:begin] + filler + data[end:])
        found = read(store, take.id)
        assert isinstance(found, TakeError) or found == take


def test_one_bad_take_harms_nobody(store, capsys, monkeypatch):
    """Forbids that damage in one take stops, hides or slows another: every reader of the store continues."""
    place(store, manifest(1, STORY, 12, used=50.0))
    bad = {take for take, name in spoiled(store).items() if name != "nothing"}  # that may be a take being begun
    place(store, manifest(2, "0s A ball", 4, used=2e9), 2)
    good = [manifest(1, STORY, 12).id, manifest(2, "0s A ball", 4).id]
    listed = list(store.takes())
    assert sorted(take.id for take in listed if isinstance(take, Manifest)) == sorted(good)
    assert sorted(take.take for take in listed if isinstance(take, TakeError)) == sorted(bad)

    lines = labels.take_choices(store)
    assert [label[-13:-1] for label in lines if not label.startswith("cannot be read")] == [good[0], good[1]]
    assert sorted(label for label in lines[2:]) == sorted(f"cannot be read [{take}]" for take in bad)
    assert run("list", store) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(good) + len(bad) and {line[:12] for line in lines} == {*good, *bad}

    origin = Origin("m", "t", "float32", StreamConfig(), (64, 48), 3)
    new = plan_take(
        store, "0s A cube", parse("0s A cube").plan(4), origin, Encoding(64, 48), VaeIdentity("v", "float32", 4)
    )
    assert "changed" in reuse(new) and not new.reused
    store.write_manifest(new.manifest)
    store.limit = 1
    store.make_room(1, new.id)
    assert store.read_manifest(new.id) == new.manifest


def run(action: str, store, *words: str) -> int:
    return cli.main(["takes", action, *words, "--takes", str(store.folder)])


@pytest.mark.parametrize("name", all_damage())
def test_what_can_be_done_with_a_damaged_take(store, name, capsys):
    """Forbids a take that is refused and cannot be removed either, and one that rendering does not repair."""
    take = manifest(5, STORY, 12)
    for again in (False, True):
        place(store, take)
        path = store.take_folder(take.id) / "take.json"
        path.unlink()
        all_damage()[name](path, take)
        if again:
            store.write_manifest(take)
            assert store.read_manifest(take.id) == take
        else:
            assert run("show", store, take.id) != 0 and take.id in capsys.readouterr().err
            assert run("remove", store, take.id) == 0
            assert not store.take_folder(take.id).exists() and not list(store.takes())


def test_a_take_that_would_be_too_long_is_refused_before_it_is_rendered(store, monkeypatch):
    """Forbids a film of a day that cannot be read afterwards."""
    monkeypatch.setattr("longlive_core.takes.manifest_file.MOST_BYTES", 500)
    with pytest.raises(TakeError, match=r"timeline and settings take \d+ bytes, and 500 are allowed"):
        store.write_manifest(real())
    assert not list(store.takes())


def test_the_longest_film_has_a_manifest(store):
    """Forbids a limit that a film of a day in the smallest chunks does not keep to."""
    shots, unit = [[f"{number:032x}" for number in range(350_000)]], "0" * 8
    take = manifest(1, "0s A ball", 4, shots=shots, unit=unit, id=take_id(shots, unit))
    assert len(manifest_bytes(take)) < MOST_BYTES / 4
    store.write_manifest(take)
    assert len(store.read_manifest(take.id).keys) == 350_000


def test_a_clock_that_was_ahead_is_forgotten(studio):
    """Forbids that a take which was begun under a wrong clock stays the newest forever."""
    take = studio.open(chunks=2, text="0c a")
    take.manifest.created = take.manifest.used = take.manifest.used + 1e8
    studio.store.write_manifest(take.manifest)
    assert studio.store.read_manifest(take.id).is_ahead
    studio.open(chunks=2, text="0c a")
    again = studio.store.read_manifest(take.id)
    assert not again.is_ahead and again.newness[0]
