"""Reading takes needs no writing: archives are read, and space is freed on full disks."""

import errno
import os

import numpy as np
import pytest
from filelock import FileLock

from longlive_core import cli
from longlive_core.takes import TakeError, TakeStore, render_take
from longlive_core.takes.frame_ranges import decoded_frames, latents_of, stored_frames
from longlive_core.takes.labels import take_choices

from .disks import fill_bytes, fill_inodes, read_only, refusing_writes, small_disk
from .studio import Studio, frames_of, no_tags

pytestmark = pytest.mark.slow
ONE, OTHER = ("0c a", 2), ("0c b", 2)


@pytest.fixture
def filmed(tiny_model, contexts, tiny_decoder):
    """Renders two takes into a folder; returns them and the studio."""

    def film(folder):
        studio = Studio(tiny_model, dict(zip("abc", contexts, strict=True)), tiny_decoder, TakeStore(folder))
        takes = [studio.open(*what) for what in (ONE, OTHER)]
        for take in takes:
            studio.render(take)
        return studio, *takes

    return film


@pytest.fixture
def command(capsys):
    """Runs `takes ...`; returns code and output, all of it."""

    def run(*words):
        code = cli.main(["takes", *map(str, words)])
        return code, "".join(capsys.readouterr())

    return run


def tree(folder):
    return {path: path.is_file() and (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*")}


def read_all(command, studio, take, elsewhere):
    """Everything that reads takes does so."""
    folder = studio.store.folder
    frames = frames_of(take.film_path)
    code, said = command("list", "--takes", folder)
    assert code == 0 and take.id in said and "2/2 chunks" in said
    code, said = command("show", take.id, "--takes", folder)
    assert code == 0 and "2 of 2 chunks rendered (complete)" in said
    code, said = command("verify", "--takes", folder)
    assert code == 0 and "none damaged" in said, said
    code, said = command("join", take.id, "--takes", folder, "-o", elsewhere / "joined.mp4")
    assert code == 0 and np.array_equal(frames_of(elsewhere / "joined.mp4"), frames), said
    store = TakeStore(folder, create=False)
    assert len(take_choices(store)) == len(list(store.takes()))
    manifest = store.read_manifest(take.id)
    assert np.array_equal(stored_frames(store, manifest, 2, 0, 99), frames)
    assert len(decoded_frames(store, manifest, 2, 0, 99, studio.decoder)) == len(frames)
    assert latents_of(store, manifest, 2, 0, 99).shape[2] == 6
    assert store.usage(manifest).size == store.size() > 0


def test_an_archive_on_a_read_only_disk(filmed, command, tmp_path):
    """Forbids that takes can be looked at only where they can be changed."""
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        studio, take, _ = filmed(disk / "takes")
        before = tree(disk)
        with read_only(disk):
            read_all(command, studio, take, tmp_path)
            code, said = command("remove", take.id, "--takes", disk / "takes")
            assert code == 2 and f"take {take.id} cannot be removed" in said and "Read-only file system" in said
            with pytest.raises(TakeError, match="cannot be kept in .*Read-only file system.*choose a folder you may"):
                TakeStore(disk / "takes")
        assert tree(disk) == before


@pytest.mark.parametrize("lost", [False, True], ids=["locks", "no locks"])
@pytest.mark.parametrize(
    ("options", "fill"), [("size=4m", fill_bytes), ("size=8m,nr_inodes=60", fill_inodes)], ids=["bytes", "files"]
)
def test_room_is_made_on_a_full_disk(filmed, command, tmp_path, options, fill, lost):
    """Forbids a full disk that can be emptied only by hand, and one where nothing can be read."""
    with small_disk(tmp_path / "disk", options) as disk:
        studio, take, other = filmed(disk / "takes")
        if lost:
            for path in list(disk.rglob(".lock")):
                path.unlink()
        fill(disk)
        assert fill is fill_bytes or os.statvfs(disk).f_ffree == 0
        read_all(command, studio, other, tmp_path)
        code, said = command("remove", take.id, "--takes", disk / "takes")
        assert code == 0 and f"removed {take.id}" in said, said
        store = studio.store
        assert [found.id for found in store.takes()] == [other.id] and not store.take_folder(take.id).exists()
        assert store.stored_keys() == set(other.manifest.keys)
        read_all(command, studio, other, tmp_path)
        assert studio.open(*ONE).reused == 0  # there is room to write again


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_reading_makes_no_file(filmed, command, tmp_path, monkeypatch, code):
    """Forbids probe files, locks and tests for the right to write, on every system."""
    studio, take, _ = filmed(tmp_path / "takes")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = tree(tmp_path / "takes")
    with refusing_writes(monkeypatch, tmp_path / "takes", code):
        monkeypatch.setattr(os, "access", None)
        read_all(command, studio, take, elsewhere)
        advice = "free some space" if code == errno.ENOSPC else "choose a folder you may write to"
        with pytest.raises(TakeError, match=f"takes cannot be kept in .*{os.strerror(code)}.; {advice}"):
            TakeStore(tmp_path / "takes")
        said = command("remove", take.id, "--takes", tmp_path / "takes")
        assert said[0] == 2 and f"take {take.id} " in said[1] and "Traceback" not in said[1]
    assert tree(tmp_path / "takes") == before


@pytest.mark.parametrize("code", [errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)])
def test_removing_needs_no_new_name(filmed, tmp_path, monkeypatch, code):
    """Forbids removing in another order than manifest first where the disk has no room for a rename."""
    studio, take, other = filmed(tmp_path / "takes")
    folder, gone, unlink = studio.store.take_folder(take.id), [], os.unlink

    def full(source, target):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "rename", full)
    monkeypatch.setattr(os, "unlink", lambda path, **named: gone.append(os.fspath(path)) or unlink(path, **named))
    assert studio.store.remove(take.id) > 0
    assert gone[0] == str(folder / "take.json") and not folder.exists()
    assert [found.id for found in studio.store.takes()] == [other.id]
    assert studio.store.stored_keys() == set(other.manifest.keys)


@pytest.mark.parametrize("films", [True, False])
def test_a_lock_for_which_there_is_no_room(filmed, tmp_path, monkeypatch, caplog, films):
    """Forbids that nothing can be removed without a lock file if none can be created; films are deleted for it."""
    studio, take, other = filmed(tmp_path / "takes")
    store, acquire = studio.store, FileLock.acquire
    if not films:
        take.film_path.unlink()

    def full(lock, *args, **named):
        if take.film_path.exists() or not films:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return acquire(lock, *args, **named)

    monkeypatch.setattr(type(store.lock), "acquire", full)
    (store.take_folder(take.id) / ".lock").unlink()
    (store.take_folder(other.id) / ".lock").unlink()
    store.remove(take.id)
    assert [found.id for found in store.takes()] == [other.id]
    assert ("without a lock" in caplog.text) == (not films)


def test_a_render_needs_a_folder_to_write_to(filmed, tmp_path, monkeypatch):
    """Forbids a raw error where the disk becomes read-only between two renders."""
    studio, take, _ = filmed(tmp_path / "takes")
    with refusing_writes(monkeypatch, tmp_path / "takes"), pytest.raises(TakeError, match="Read-only file system"):
        render_take(take, studio.model, studio.decoder, studio.contexts.__getitem__, no_tags)
    with refusing_writes(monkeypatch, tmp_path / "takes"):
        for act in (
            lambda: studio.store.make_room(0, take.manifest),
            lambda: studio.store.write_manifest(take.manifest),
            lambda: studio.store.remove(take.id),
        ):
            with pytest.raises(TakeError, match="Read-only file system"):
                act()


def test_a_store_that_is_not_there_yet(tmp_path):
    """Forbids an error, and a folder, for a look at takes before the first one is rendered."""
    store = TakeStore(tmp_path / "nothing", create=False)
    assert list(store.takes()) == [] and store.size() == 0 and store.stored_keys() == set()
    store.check_writable()
    assert not list(tmp_path.iterdir())
