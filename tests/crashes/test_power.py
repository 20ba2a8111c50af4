"""The disk that loses power keeps what POSIX promises, and loses everything else; the recording misses nothing."""

import os
import shutil
from pathlib import Path

import pytest

from .power import Crash, Log, read, write
from .recording import recording

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the recording knows POSIX")
OLD, NEW = b"old" * 10, b"brand new" * 10


def left(log: Log, after: int | None = None) -> list[dict]:
    """Yield every state after this many operations, by default after all."""
    return [dict(state) for state in Crash(log, len(log.ops) if after is None else after).states(None)]


def replaced(folder, sync_file=False, sync_folder=False) -> Log:
    """A file is replaced as programs do it, with or without what keeps it."""
    (folder / "file").write_bytes(OLD)
    with recording(folder) as log:
        with (folder / "new").open("wb") as file:
            file.write(NEW)
            file.flush()
            if sync_file:
                os.fsync(file.fileno())
        os.replace(folder / "new", folder / "file")
        if sync_folder:
            handle = os.open(folder, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
    return log


def test_nothing_is_kept_that_was_not_synced(tmp_path):
    """Forbids a model that is kinder than disks are: a name without its bytes is what they leave."""
    contents = {state.get("file") for state in left(replaced(tmp_path))}
    assert contents == {OLD, NEW, b"", NEW[:45], bytes(90), NEW[:45] + bytes(45)}


def test_a_synced_file_has_its_old_name_or_its_new_one(tmp_path):
    """Forbids a model in which the sync of a file keeps its name, and one that tears what is synced."""
    states = left(replaced(tmp_path, sync_file=True))
    assert {state["file"] for state in states} == {OLD, NEW}
    assert {state.get("new") for state in states} == {None, NEW}


def test_a_synced_folder_keeps_names_and_not_their_bytes(tmp_path):
    """Forbids a model in which the sync of a folder keeps what was written to its files."""
    states = left(replaced(tmp_path, sync_folder=True))
    assert all(set(state) == {"file"} for state in states) and len(states) == 5
    assert OLD not in {state["file"] for state in states}


def test_what_is_synced_is_kept(tmp_path):
    """Forbids false alarms."""
    assert left(replaced(tmp_path, sync_file=True, sync_folder=True)) == [{"file": NEW}]


def test_a_later_sync_does_not_keep_an_earlier_name(tmp_path):
    """Forbids a model in which every operation before a sync is kept, as on a disk that keeps their order."""
    (tmp_path / "in").mkdir()
    with recording(tmp_path) as log:
        (tmp_path / "one").write_bytes(b"1")
        with (tmp_path / "in" / "two").open("wb", buffering=0) as file:
            file.write(b"2")
            os.fsync(file.fileno())
        folder = os.open(tmp_path / "in", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    states = left(log)
    assert all(state["in/two"] == b"2" for state in states)
    assert {"one" in state for state in states} == {True, False}


def test_a_folder_that_is_not_kept_takes_what_lies_in_it(tmp_path):
    """Forbids a model in which a file outlives a folder whose own folder was not synced."""
    with recording(tmp_path) as log:
        (tmp_path / "new").mkdir()
        with (tmp_path / "new" / "file").open("wb", buffering=0) as file:
            file.write(b"1")
            os.fsync(file.fileno())
        folder = os.open(tmp_path / "new", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    assert left(log) == [{"new": None, "new/file": b"1"}, {}]


def test_files_go_in_any_order(tmp_path):
    """Forbids a model that removes in the program's order: of a folder that is removed any part may be back."""
    state = {"take": None, "take/a": b"a", "take/b": b"b"}
    log = Log()
    log.begin(state)
    for name in ("take/a", "take/b", "take"):
        log.remove(name)
    states = left(log)
    for kept in ([], ["take/a"], ["take/b"], ["take/a", "take/b"]):
        assert {"take": None, **{name: state[name] for name in kept}} in states
    assert {} in states


def test_later_bytes_may_come_before_earlier_ones(tmp_path):
    """Forbids a model in which a file is always a beginning of what was written."""
    log = Log()
    file = log.create("file")
    log.write(file, 0, b"1111")
    log.write(file, 4, b"2222")
    assert b"\0\0\0\0" + b"2222" in {state.get("file") for state in left(log)}


def test_a_sample_has_the_plain_losses(tmp_path):
    """Forbids a sample that leaves out what is likeliest: all is there, or nothing that was not synced."""
    log = Log()
    for number in range(12):
        log.write(log.create(f"{number}"), 0, b"x" * 10)
    crash = Crash(log, len(log.ops))
    assert crash.count == 10**12
    sample = list(crash.states(12, seed=1))
    assert log.state() in sample and {} in sample and len(sample) <= 12
    assert sample == list(crash.states(12, seed=1)) != list(crash.states(12, seed=2))


def every_way(folder: Path) -> None:
    """Python's ways of changing a folder."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "text").write_text("äöü")
    (folder / "a" / "bytes").write_bytes(b"12345")
    with open(folder / "a" / "bytes", "r+b") as file:
        file.seek(2)
        file.write(b"X")
        file.truncate(4)
    with open(folder / "a" / "text", "a") as file:
        file.write("more")
    handle = os.open(folder / "a" / "b" / "raw", os.O_CREAT | os.O_WRONLY)
    os.write(handle, b"one")
    os.write(handle, b"two")
    os.ftruncate(handle, 5)
    os.close(handle)
    with open(folder / "unbuffered", "xb", buffering=0) as file:
        file.write(b"0" * 7)
    os.truncate(folder / "unbuffered", 3)
    os.link(folder / "unbuffered", folder / "linked")
    (folder / "a" / "text").rename(folder / "text")
    os.replace(folder / "text", folder / "a" / "bytes")
    shutil.copy(folder / "a" / "bytes", folder / "copy")
    (folder / "old" / "inner").mkdir(parents=True)
    (folder / "old" / "inner" / "file").touch()
    shutil.rmtree(folder / "old")
    (folder / "linked").unlink()
    os.rmdir(folder / "a" / "b") if not os.listdir(folder / "a" / "b") else os.remove(folder / "a" / "b" / "raw")


def test_every_way_of_changing_a_folder_is_seen(tmp_path):
    """Forbids operations that the recording does not know: it fails if the recorded files differ from the real ones."""
    with recording(tmp_path) as log:
        every_way(tmp_path)
    assert log.state() == read(tmp_path)


def test_what_is_missed_is_an_error(tmp_path):
    """Forbids a recording that leaves something out in silence."""
    unlink = os.unlink
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AssertionError, match="not recorded: .'file'."), recording(tmp_path):
        unlink(tmp_path / "file")


def test_a_state_is_built_as_it_was_read(tmp_path):
    """Forbids checking another state than the one that a crash leaves."""
    state = {"a": None, "a/b": None, "a/file": b"1", "file": b""}
    write(tmp_path / "built", state)
    assert read(tmp_path / "built") == state
