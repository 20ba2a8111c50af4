"""Names and bytes that a loss of power must not take, and disks that refuse to keep them."""

import errno
import os

import pytest

from longlive_core.files.durable import make_folder, sync_file, sync_folder
from longlive_core.film.video import FilmWriter
from longlive_core.takes import TakeError
from longlive_core.takes.disk import sync, write_whole

from .filming import ramp

posix = pytest.mark.skipif(os.name == "nt", reason="there a folder cannot be synced")


@pytest.fixture
def synced(monkeypatch, tmp_path):
    """Names, below tmp_path, of what was synced, in order. fail: the next sync of a folder ends in that error."""
    real, names = os.fsync, []

    def fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}") if os.path.exists("/proc/self/fd") else str(handle)
        if names[:1] and isinstance(names[0], int) and os.path.isdir(path):
            raise OSError(names[0], os.strerror(names[0]))
        names.append(os.path.relpath(path, os.path.realpath(tmp_path)))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's /proc to see which file is synced")
def test_a_new_folder_is_kept_by_the_one_it_lies_in(tmp_path, synced):
    """Forbids files that are kept in a folder that is not."""
    make_folder(tmp_path / "a" / "b")
    assert synced == [".", "a"]
    make_folder(tmp_path / "a" / "b")
    assert synced == [".", "a"]


def test_a_file_in_a_folders_place_is_an_error(tmp_path):
    """Forbids writing where there is no folder."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


@posix
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_syncs_no_folders(tmp_path, synced, number):
    """Forbids that nothing can be rendered on a network drive that knows no such call."""
    synced.append(number)
    sync_folder(tmp_path)
    write_whole(tmp_path / "in" / "file", b"1")
    assert (tmp_path / "in" / "file").read_bytes() == b"1"


@posix
def test_a_disk_that_fails_is_an_error(tmp_path, synced):
    """Forbids reporting a chunk as done that the disk did not keep."""
    synced.append(errno.EIO)
    with pytest.raises(OSError):
        sync_folder(tmp_path)
    with pytest.raises(TakeError, match="cannot write"):
        sync(tmp_path)
    with pytest.raises(TakeError, match="cannot write"):
        write_whole(tmp_path / "file", b"1")


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's /proc to see which file is synced")
def test_a_film_is_synced_before_it_gets_its_name(tmp_path, synced):
    """Forbids an empty film in the place of the one before."""
    with FilmWriter(tmp_path / "film.mp4", 64, 48) as film:
        film.write(ramp(3))
    assert synced == ["film.mp4.part", "."]


def test_a_film_that_cannot_be_synced_leaves_the_one_before(tmp_path, monkeypatch):
    """Forbids losing a film to a disk that fails while the next is finished, and a part that stays."""
    (tmp_path / "film.mp4").write_bytes(b"before")

    def fsync(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError), FilmWriter(tmp_path / "film.mp4", 64, 48) as film:
        film.write(ramp(3))
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert (tmp_path / "film.mp4").read_bytes() == b"before"


def test_syncing_a_file_leaves_it_as_it_is(tmp_path):
    """Forbids that opening it to sync it empties it."""
    (tmp_path / "file").write_bytes(b"content")
    sync_file(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"content"
