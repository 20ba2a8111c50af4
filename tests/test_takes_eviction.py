"""Which takes leave a store that is full: the fewest, and never what a film or another take needs."""

import contextlib
import itertools
import os
import random
import time

import pytest

from longlive_core.takes import TakeStore
from longlive_core.takes.manifest import take_id
from tests.made_takes import manifest

from .sized_takes import HOUR, UNITS, chunk_files, grow_old, key, limited, names, put, spoil, take


@pytest.fixture
def store(tmp_path):
    return TakeStore(tmp_path / "store")


# --- the limit


@pytest.mark.parametrize("unreadable", [0, 1, 2])
def test_room_for_one_take_costs_one_take(store, unreadable):
    """Forbids removing takes that free nothing needed, and files that no take names afterwards."""
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
        """Return the bytes after these takes are removed."""
        left = set().union(*(uses for one, uses in self.uses.items() if one not in gone))
        used = set().union(*self.uses.values())
        vague = self.sizes.keys() - used if self.unreadable else set()
        return sum(self.sizes[name] for name in left | vague) + sum(
            size for one, size in self.own.items() if one not in gone
        )


@pytest.mark.parametrize("seed", range(60))
def test_eviction_against_counting(tmp_path, seed):
    """Forbids removing one take too many or too few, with any shared chunks, and losing what a remaining take uses."""
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
    """Forbids a take that is never removed because its date is wrong, by a clock or by hand."""
    put(store, take(1, range(4), used=time.time() - 1))
    put(store, take(2, range(20, 24), used=time.time()))
    ahead = put(store, take(3, range(10, 14), used=time.time() + 1e9))
    assert limited(store, 0).make_room(1, keep="0" * 12) == [ahead.id]


def test_units_of_another_encoding_go_with_their_take(store):
    """Forbids video that stays forever because its latents are used by another take."""
    fine, coarse = put(store, take(1, range(4))), put(store, take(2, range(4), unit=UNITS[1]))
    assert store.remove(coarse.id) == 4 * 50 + 70 + (store.manifest_path(fine.id)).stat().st_size
    assert chunk_files(store) == names(fine)


def test_a_take_that_cannot_go_is_passed_over(store, monkeypatch):
    """Forbids more takes than needed, or none, if one of them is held when it is to be removed."""
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
    """Forbids losing a take while the store has chunks that no take names."""
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
