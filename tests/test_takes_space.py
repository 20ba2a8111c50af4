"""What leaves a store: leftovers by age; never what an unreadable take may use."""

import re

import pytest

from longlive_core.takes import TakeError, TakeStore
from longlive_core.takes.removal import sweep

from .sized_takes import DAY, chunk_files, grow_old, key, names, put, spoil, take


@pytest.fixture
def store(tmp_path):
    return TakeStore(tmp_path / "store")


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


def test_what_fills_a_store_is_reported_separately(store):
    """Forbids bytes that are not counted, and a limit that seems to be kept because some were not counted."""
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
    """Forbids leftovers that are never removed, in any folder, and removing what another process is writing."""
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
    """Forbids chunks that stay forever after their take's folder was deleted by hand, and haste: they may be of a
    render whose manifest was removed a moment ago."""
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
    """Forbids growing films of takes that are not being rendered, and removing that of one that is rendered, or the
    only thing that is left of a take whose manifest is missing."""
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
    """Forbids folders of locks that pile up, each of them an unreadable take."""
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
