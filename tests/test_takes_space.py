"""What leaves a store: the fewest takes, what only they used, leftovers; never what somebody may need."""

import contextlib
import itertools
import os
import random
import re
import time

import pytest

from longlive_core.takes import TakeError, TakeStore
from longlive_core.takes.manifest import take_id
from longlive_core.takes.removal import sweep
from tests.made_takes import manifest

HOUR, DAY = 3600.0, 24 * 3600.0
UNITS = ("aaaaaaaa", "bbbbbbbb")


@pytest.fixture
def store(tmp_path):
    return TakeStore(tmp_path / "store")


def key(number):
    return f"{number % 256:02x}{number:030x}"


def take(number, keys, used=None, unit=UNITS[0], **changes):
    """A take of these chunks, by number."""
    shots = [[key(chunk) for chunk in keys]]
    facts = {"used": float(number) if used is None else used, "shots": shots, "unit": unit, **changes}
    return manifest(number, "0s a", (12 * len(shots[0]) - 3) / 16, id=take_id(shots, unit), **facts)


def names(made):
    return {name for chunk in made.keys for name in (f"{chunk}.safetensors", f"{chunk}.{made.unit}.mp4")}


def put(store, made, latents=100, video=50, film=70):
    """The take with files of so many bytes; those that are there stay."""
    for chunk in made.keys:
        for path, size in ((store.latents_path(chunk), latents), (store.unit_path(chunk, made.unit), video)):
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.write_bytes(b"x" * size)
    store.write_manifest(made)
    (store.take_folder(made.id) / "film.mp4").write_bytes(b"x" * film)
    return made


def spoil(store, made, data=b"{"):
    (store.take_folder(made.id) / "take.json").write_bytes(data)


def grow_old(path, seconds=DAY + 60):
    then = time.time() - seconds
    os.utime(path, (then, then))


def chunk_files(store):
    return {path.name for path in store.chunks.files()}


def limited(store, spare):
    """The store, with a limit so many bytes above what it holds."""
    return TakeStore(store.folder, limit=store.size() + spare)


# --- the limit


@pytest.mark.parametrize("unreadable", [0, 1, 2])
def test_room_for_one_take_costs_one_take(store, unreadable):
    """Forbids takes that go though they free nothing that is needed, and files that nobody names afterwards."""
    made = [put(store, take(number, range(10 * number, 10 * number + 4))) for number in range(1, 5)]
    for number in range(5, 5 + unreadable):
        spoil(store, put(store, take(number, range(10 * number, 10 * number + 4))))
    needed = store.size_of(made[0])
    smaller = limited(store, 0)
    before = store.size()
    assert smaller.make_room(needed, keep="0" * 12) == [made[0].id]
    assert store.size() == before - needed
    assert chunk_files(store) >= set().union(*map(names, made[1:])) and not chunk_files(store) & names(made[0])


class Model:
    """The same store as sets of names with bytes; every question is answered by counting anew."""

    def __init__(self, store, made, unreadable, stay):
        self.sizes = {path.name: path.stat().st_size for path in store.chunks.files()}
        self.own = {one.id: sum(path.stat().st_size for path in store.take_folder(one.id).iterdir()) for one in made}
        self.uses = {one.id: names(one) & self.sizes.keys() for one in made if one.id not in unreadable}
        self.unreadable = unreadable
        self.candidates = sorted((one for one in made if one.id not in {*unreadable, *stay}), key=lambda one: one.used)

    def size(self, gone=()):
        """Bytes when these takes are gone."""
        left = set().union(*(uses for one, uses in self.uses.items() if one not in gone))
        used = set().union(*self.uses.values())
        vague = self.sizes.keys() - used if self.unreadable else set()
        return sum(self.sizes[name] for name in left | vague) + sum(
            size for one, size in self.own.items() if one not in gone
        )


@pytest.mark.parametrize("seed", range(60))
def test_eviction_against_counting(tmp_path, seed):
    """Forbids one take too many or too few, whatever they share, and losing what a take uses that stays."""
    dice, store = random.Random(seed), TakeStore(tmp_path / "store")
    made = []
    for number in range(1, dice.randrange(2, 8)):
        keys = [*range(dice.randrange(4)), *(100 * number + chunk for chunk in range(dice.randrange(1, 4)))]
        if made and dice.random() < 0.4:  # the beginning of another
            keys = [int(chunk[2:], 16) for chunk in dice.choice(made).keys[: dice.randrange(1, 4)]] + keys[-1:]
        new = take(number, dict.fromkeys(keys), dice.random(), dice.choice(UNITS))
        if new.id not in {one.id for one in made}:
            made.append(put(store, new, *(dice.randrange(1, 200) for _ in range(3))))
    for chunk in range(dice.randrange(3)):
        store.latents_path(key(9000 + chunk)).parent.mkdir(exist_ok=True)
        store.latents_path(key(9000 + chunk)).write_bytes(b"x" * dice.randrange(200))
        grow_old(store.latents_path(key(9000 + chunk)), HOUR + 60)
    unreadable = {one.id for one in made if dice.random() < 0.15}
    for one in made:
        if one.id in unreadable:
            spoil(store, one)
    keep = dice.choice(made).id
    rendered = {one.id for one in made if one.id != keep and dice.random() < 0.15}
    with contextlib.ExitStack() as stack:
        for one in rendered:
            stack.enter_context(store.rendering(one))
        model = Model(store, made, unreadable, {keep, *rendered})
        needed = dice.randrange(0, 800)
        store.limit = max(1, store.size() + needed - dice.randrange(0, store.size()))
        gone = store.make_room(needed, keep)
    fits = [
        set(some)
        for count in range(len(model.candidates) + 1)
        for some in itertools.combinations([one.id for one in model.candidates], count)
        if model.size(some) + needed <= store.limit
    ]
    assert len(set(gone)) == len(gone)
    assert (set(gone) in fits) if fits else gone == []
    assert not any(some < set(gone) for some in fits), "more than is needed"
    if gone:  # those unused for longest: without the last of them, all before it would not have been enough
        order = [one.id for one in model.candidates]
        assert model.size(order[: max(map(order.index, gone))]) + needed > store.limit
    assert store.size() == model.size(gone) or (not gone and store.size() + needed <= store.limit)
    for one in made:
        there = store.take_folder(one.id).exists()
        assert there == (one.id not in gone)
        if there and one.id not in unreadable:
            assert names(one) & model.sizes.keys() <= chunk_files(store)


def test_takes_that_share_everything_go_together_or_not_at_all(store):
    """Forbids removing a take that frees nothing, because all it has another one has too."""
    first = put(store, take(1, range(8)), film=0)
    shots = [[key(chunk) for chunk in part] for part in (range(4), range(4, 8))]  # the same chunks
    second = manifest(2, "0c a\n4c b {cut}", 90 / 16, used=2.0, shots=shots, unit=UNITS[0], id=take_id(shots, UNITS[0]))
    put(store, second, film=0)
    third = put(store, take(3, range(20, 24)), film=0)
    own = store.size_of(first) - 8 * 150  # its folder
    assert limited(store, 0).make_room(own, keep="0" * 12) == [first.id]
    put(store, first, film=0)
    assert limited(store, 0).make_room(2 * own + 1, keep="0" * 12) == [first.id, second.id]
    assert not chunk_files(store) & names(first) and names(third) <= chunk_files(store)


def test_a_small_old_take_stays_where_a_larger_one_has_to_go(store):
    """Forbids takes of little use to the limit going before the one that is enough alone."""
    old, large = put(store, take(1, range(1))), put(store, take(2, range(10, 30)))
    put(store, take(3, range(40, 42)))
    assert limited(store, 0).make_room(1500, keep="0" * 12) == [large.id]
    assert names(old) <= chunk_files(store)


def test_what_is_shared_with_the_film_itself_frees_nothing(store):
    """Forbids counting chunks that the new film begins with as room that a take would leave."""
    old, film = put(store, take(1, range(10)), film=0), put(store, take(2, range(12)), film=0)
    other = put(store, take(3, range(50, 60)), film=0)
    own = store.size_of(old) - 10 * 150  # its folder
    assert limited(store, 0).make_room(own + 1, keep=film.id) == [other.id]
    assert names(old) <= chunk_files(store)


def test_nothing_goes_where_all_is_not_enough(store):
    """Forbids losing takes for a film that then does not fit all the same."""
    made = [put(store, take(number, range(10 * number, 10 * number + 4))) for number in range(1, 4)]
    before = sorted(store.folder.rglob("*"))
    assert limited(store, 0).make_room(store.size(), keep=made[0].id) == []
    assert sorted(store.folder.rglob("*")) == before


def test_a_take_that_is_dated_ahead_is_no_newer_than_the_others(store):
    """Forbids a take that stays for ever, because its clock was wrong or somebody wrote so."""
    put(store, take(1, range(4), used=time.time() - 1))
    put(store, take(2, range(20, 24), used=time.time()))
    ahead = put(store, take(3, range(10, 14), used=time.time() + 1e9))
    assert limited(store, 0).make_room(1, keep="0" * 12) == [ahead.id]


def test_units_of_another_encoding_go_with_their_take(store):
    """Forbids video that stays for ever because its latents are used by another take."""
    fine, coarse = put(store, take(1, range(4))), put(store, take(2, range(4), unit=UNITS[1]))
    assert store.remove(coarse.id) == 4 * 50 + 70 + (store.manifest_path(fine.id)).stat().st_size
    assert chunk_files(store) == names(fine)


def test_a_take_that_cannot_go_is_passed_over(store, monkeypatch):
    """Forbids more takes than needed, or none, where one of them is held at the moment it is to go."""
    made = [put(store, take(number, range(10 * number, 10 * number + 4))) for number in range(1, 4)]
    rename = os.rename

    def refuse(source, target):
        if made[0].id in str(source):
            raise PermissionError(13, "in use")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    assert limited(store, 0).make_room(1, keep="0" * 12) == [made[1].id]
    assert names(made[0]) | names(made[2]) == chunk_files(store)


def test_orphans_go_before_takes(store):
    """Forbids losing a take while chunks lie there that no take names."""
    made = put(store, take(1, range(4)))
    orphan = store.latents_path(key(500))
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x" * 400)
    grow_old(orphan, HOUR + 60)
    assert limited(store, 0).make_room(300, keep="0" * 12) == []
    assert chunk_files(store) == names(made)


def test_new_chunks_are_no_orphans_yet(store):
    """Forbids that one render takes another's newest chunks, whose manifest is about to be written."""
    made = put(store, take(1, range(4)))
    fresh = store.latents_path(key(500))
    fresh.parent.mkdir(exist_ok=True)
    fresh.write_bytes(b"x" * 400)
    assert store.usage(take(2, range(3))).rendered == 400
    assert limited(store, 0).make_room(300, keep="0" * 12) == [made.id]
    assert chunk_files(store) == {fresh.name}


# --- takes that cannot be read


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", None], ids=repr)
def test_what_may_be_of_a_take_that_cannot_be_read_stays(store, damage):
    """Forbids removing its chunks, those that others name too as far as its file still names them."""
    broken, other = take(1, range(6)), take(2, range(4, 10))
    put(store, broken), put(store, other)
    text = store.manifest_path(broken.id).read_bytes()
    spoil(store, broken, text[: text.index(key(4).encode()) + 33] if damage is None else damage)
    for path in store.chunks.files():
        grow_old(path)
    freed = store.remove(other.id)
    kept = names(take(1, range(5 if damage is None else 4)))
    assert chunk_files(store) == kept and freed > 0
    store.make_room(10**9, keep="0" * 12)
    assert chunk_files(store) == kept and store.take_folder(broken.id).is_dir()
    store.remove(broken.id)
    assert not chunk_files(store)


def test_a_newer_format_keeps_all_its_chunks(store):
    """Forbids that an older version removes what a newer one wrote."""
    newer, other = put(store, take(1, range(6))), put(store, take(2, range(3, 9)))
    spoil(store, newer, re.sub(rb'"format": [0-9]+', b'"format": 99', store.manifest_path(newer.id).read_bytes()))
    store.remove(other.id)
    assert chunk_files(store) == names(newer)


def test_a_folder_of_takes_that_cannot_be_read_stops_everything(store, tmp_path):
    """Forbids taking all chunks for orphans because the list of takes is on a disk that is not there."""
    made = put(store, take(1, range(4)))
    for path in store.chunks.files():
        grow_old(path)
    store.takes_folder.rename(tmp_path / "elsewhere")
    store.takes_folder.symlink_to(tmp_path / "another disk")
    for act in (lambda: store.make_room(10**9, made), lambda: sweep(store)):
        with pytest.raises(TakeError, match="is a link to nothing, so it is unknown which chunks are used"):
            act()
    assert chunk_files(store) == names(made)


def test_a_look_at_a_store_makes_no_file(store):
    """Forbids locks that a look leaves in every take's folder."""
    made = put(store, take(1, range(4)))
    before = sorted(store.folder.rglob("*"))
    store.usage(made), store.size(), store.is_being_rendered(made.id)
    assert sorted(store.folder.rglob("*")) == before


def test_what_fills_a_store_is_told_apart(store):
    """Forbids bytes that nobody accounts for, and a limit that seems to be kept because some were not counted."""
    film, other, busy, broken = (
        put(store, take(number, range(10 * number, 10 * number + 4))) for number in range(1, 5)
    )
    spoil(store, broken)
    (store.folder / "story_00001_.mp4").write_bytes(b"x" * 5000)  # saved there, by ComfyUI's own node
    (store.takes_folder / "notes.txt").write_bytes(b"x" * 1000)
    folder = {
        one.id: sum(path.stat().st_size for path in store.take_folder(one.id).iterdir())
        for one in (film, other, busy, broken)
    }
    with store.rendering(busy.id):
        found = store.usage(film)
    assert (found.film, found.rendered) == (600 + folder[film.id], 600 + folder[busy.id])
    assert (found.unreadable, found.removable) == (600 + folder[broken.id], 600 + folder[other.id])
    assert found.other == 1000 and found.size == store.size()
    store.limit = found.stays
    assert store.make_room(0, film) == [other.id] and store.size() == found.stays


# --- leftovers


LEFTOVERS = [
    "0123456789abcdef0123456789abcdef.tmp",
    "chunks/stray.tmp",
    "chunks/00/{key}.safetensors.0a1b2c3d.tmp",
    "chunks/00/{key}.aaaaaaaa.mp4.0a1b2c3d.tmp",
    "chunks/00/{key}.safetensors.0a1b2c3d.damaged",
    "chunks/00/{key}.aaaaaaaa.mp4.0a1b2c3d.damaged",
    "takes/stray.tmp",
    "takes/{take}/take.json.0a1b2c3d.tmp",
    "takes/{take}/film.mp4.part",
    "takes/{take}/take.json.0a1b2c3d.damaged",
]


@pytest.mark.parametrize(
    "clean",
    [
        lambda store: store.make_room(0, "0" * 12),
        sweep,
        lambda store: store.remove(take(2, range(4, 6)).id),
    ],
    ids=["render", "sweep", "remove"],
)
def test_what_nobody_finishes_goes_by_age(store, clean):
    """Forbids leftovers that stay for ever, wherever they lie, and taking what somebody writes just now."""
    made, _ = put(store, take(1, range(4))), put(store, take(2, range(4, 6)))
    paths = [store.folder / name.format(key=key(0), take=made.id) for name in LEFTOVERS]
    for path in paths:
        path.write_bytes(b"x")
    clean(store)
    assert all(path.exists() for path in paths)
    for path in paths:
        grow_old(path)
    put(store, take(2, range(4, 6)))
    clean(store)
    assert [path for path in paths if path.exists()] == []
    assert names(made) <= chunk_files(store) and store.read_manifest(made.id) == made


def test_folders_of_others_are_left_alone(store):
    """Forbids cleaning what is not the store's: another program's parts, another store, what links lead to."""
    outside = store.folder.parent / "outside"
    outside.mkdir()
    (store.folder / "mine").mkdir()
    mine = [
        store.folder / "mine" / "download.part",
        outside / "film.mp4.part",
        store.folder / "notes.part",
        store.chunks.folder / "00" / "deeper" / f"{key(0)}.safetensors",
    ]
    (store.chunks.folder / "00" / "deeper").mkdir(parents=True)
    for path in mine:
        path.write_bytes(b"x")
        grow_old(path)
    (store.takes_folder / "link").symlink_to(outside)
    sweep(store)
    assert all(path.exists() for path in mine)


def test_chunks_without_a_take_go_by_age(store):
    """Forbids chunks that stay for ever after their take's folder was thrown away by hand, and haste: they may be of a
    render whose manifest somebody removed a moment ago."""
    made, thrown = put(store, take(1, range(4))), put(store, take(2, range(2, 8)))
    for path in store.take_folder(thrown.id).iterdir():
        path.unlink()
    store.take_folder(thrown.id).rmdir()
    sweep(store)
    assert chunk_files(store) == names(made) | names(thrown)
    for name in (store.latents_path(key(6)), store.latents_path(key(0))):
        grow_old(name)
    sweep(store)
    assert chunk_files(store) == (names(made) | names(thrown)) - {f"{key(6)}.safetensors"}


def test_films_that_a_crash_left_growing_go_by_age(store):
    """Forbids growing films of takes that nobody renders, and taking that of one that is rendered, or the only thing
    that is left of a take whose manifest is gone."""
    crashed, busy, broken, bare = (
        put(store, take(number, range(10 * number, 10 * number + 2))) for number in range(1, 5)
    )
    growing = {one.id: store.take_folder(one.id) / "growing.mp4" for one in (crashed, busy, broken, bare)}
    for one, path in growing.items():
        path.write_bytes(b"x")
        grow_old(path)
        grow_old(store.take_folder(one) / "film.mp4", 2 * DAY)
    spoil(store, broken)
    store.manifest_path(bare.id).unlink()
    with store.rendering(busy.id):
        sweep(store)
    assert [one for one, path in growing.items() if path.exists()] == [busy.id, broken.id, bare.id]


def test_a_folder_that_holds_nothing_goes_by_age(store):
    """Forbids folders of locks that pile up, each of them a take that nobody can read."""
    folder = store.take_folder("0" * 12)
    folder.mkdir()
    (folder / ".lock").touch()
    sweep(store)
    assert folder.is_dir()
    grow_old(folder)
    with store.rendering("0" * 12):
        sweep(store)
        assert folder.is_dir()
    sweep(store)
    assert not folder.exists()


def test_an_old_orphan_stays_while_a_take_cannot_be_read(store):
    """Forbids cleaning by age what an unreadable take may need."""
    broken = put(store, take(1, range(4)))
    spoil(store, broken)
    for path in store.chunks.files():
        grow_old(path)
    sweep(store)
    assert chunk_files(store) == names(broken)
