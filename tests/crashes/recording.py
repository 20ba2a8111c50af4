"""Recording what a program does to a folder: every operation of `os` and `open`, and what FFmpeg writes.

FFmpeg opens its files itself. What it wrote is seen at the next operation of Python's, as one write without a sync;
which is all that matters, as films are the only files that it writes.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import pathlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from .power import Log, read


@contextlib.contextmanager
def recording(folder: Path, said: Iterable = ()) -> Iterator[Log]:
    """While this lasts, what is done in `folder` is recorded, and done. AssertionError where something was missed.

    Files that exist at the beginning count as durable. `fsync` is recorded, not done. said: reported before.
    """
    recorder = _Recorder(folder)
    for report in said:
        recorder.log.mark(report)
    recorder.log.first = len(recorder.log.ops)
    with pytest.MonkeyPatch.context() as patch:
        recorder.patch(patch)
        yield recorder.log
        recorder.catch_up()
    there, seen = read(folder), recorder.log.state()
    missed = {path for path in {*there, *seen} if there.get(path, 0) != seen.get(path, 0)}
    assert not missed, f"not recorded: {sorted(missed)}"


class _Recorder:
    def __init__(self, folder: Path):
        self.folder, self.log = os.path.realpath(folder), Log()
        self.log.begin(read(folder))
        self.open_nodes: dict[int, int] = {}  # by descriptor
        self.open_paths: dict[int, str] = {}
        self.real = {name: getattr(os, name) for name in _NAMES if hasattr(os, name)}  # macOS lacks one
        self.real_open = io.open

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        accessor = getattr(pathlib, "_normal_accessor", None)  # Python 3.10's pathlib has its own references
        for name in self.real:
            patch.setattr(os, name, getattr(self, name))
            if hasattr(accessor, name):
                patch.setattr(accessor, name, getattr(self, name))
        if accessor is not None:
            patch.setattr(accessor, "open", self.open_file)
        patch.setattr(io, "open", self.open_file)
        patch.setattr(builtins, "open", self.open_file)

    def place(self, path, dir_fd: int | None = None) -> str | None:
        """A path relative to the folder; None: outside of it."""
        if isinstance(path, int):
            return self.open_paths.get(path)
        path = os.fsdecode(path)
        if dir_fd is not None:
            if dir_fd not in self.open_paths:
                return None
            path = os.path.join(self.folder, self.open_paths[dir_fd], path)
        parent, name = os.path.split(os.path.abspath(path))
        path = os.path.join(os.path.realpath(parent), name)
        if path != self.folder and not path.startswith(self.folder + os.sep):
            return None
        return Path(path).relative_to(self.folder).as_posix()

    def catch_up(self) -> None:
        """See what FFmpeg has written by now."""
        for path in Path(self.folder).glob("**/takes/*/*.mp4*"):
            name, node = path.relative_to(self.folder).as_posix(), None
            with self.real_open(path, "rb") as file:
                now = file.read()
            node = self.log.find(name)
            node = self.log.create(name) if node is None else node
            before = self.log.content(node)
            if now == before:
                continue
            if not now.startswith(before):
                self.log.resize(node, 0)
                before = b""
            self.log.write(node, len(before), now[len(before) :])

    # --- names

    def mkdir(self, path, mode=0o777, *, dir_fd=None):
        place = self.place(path, dir_fd)
        self.real["mkdir"](path, mode, dir_fd=dir_fd)
        if place is not None:
            self.catch_up()
            self.log.make_folder(place)

    def unlink(self, path, *, dir_fd=None):
        self._removed("unlink", path, dir_fd)

    def remove(self, path, *, dir_fd=None):
        self._removed("remove", path, dir_fd)

    def rmdir(self, path, *, dir_fd=None):
        self._removed("rmdir", path, dir_fd)

    def _removed(self, how: str, path, dir_fd: int | None) -> None:
        place = self.place(path, dir_fd)
        self.catch_up()
        self.real[how](path, dir_fd=dir_fd)
        if place is not None:
            self.log.remove(place)

    def rename(self, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        self._renamed("rename", source, target, src_dir_fd, dst_dir_fd)

    def replace(self, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        self._renamed("replace", source, target, src_dir_fd, dst_dir_fd)

    def _renamed(self, how: str, source, target, src_dir_fd, dst_dir_fd) -> None:
        places = self.place(source, src_dir_fd), self.place(target, dst_dir_fd)
        self.catch_up()
        self.real[how](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if places != (None, None):
            assert None not in places, f"moved in or out of the folder: {source} to {target}"
            self.log.rename(*places)

    def link(self, source, target, **options):
        self.real["link"](source, target, **options)
        if self.place(target) is not None:
            self.log.link(self.place(source), self.place(target))

    # --- content

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        place = self.place(path, dir_fd)
        if place is None:
            return self.real["open"](path, flags, mode, dir_fd=dir_fd)
        self.catch_up()
        descriptor = self.real["open"](path, flags, mode, dir_fd=dir_fd)
        self._opened(place, descriptor, flags & os.O_TRUNC)
        return descriptor

    def _opened(self, place: str, descriptor: int, emptied: bool) -> int:
        """-> the file's number."""
        node = self.log.find(place)
        if node is None:
            node = self.log.create(place)
        elif emptied and self.log.content(node):
            self.log.resize(node, 0)
        self.open_nodes[descriptor], self.open_paths[descriptor] = node, place
        return node

    def close(self, descriptor):
        self.open_nodes.pop(descriptor, None)
        self.open_paths.pop(descriptor, None)
        self.real["close"](descriptor)

    def write(self, descriptor, data):
        at = os.lseek(descriptor, 0, os.SEEK_CUR) if descriptor in self.open_nodes else 0
        written = self.real["write"](descriptor, data)
        if descriptor in self.open_nodes:
            self.log.write(self.open_nodes[descriptor], at, bytes(data)[:written])
        return written

    def sendfile(self, target, source, offset, count):
        """What `shutil.copy` uses."""
        at = os.lseek(target, 0, os.SEEK_CUR) if target in self.open_nodes else 0
        sent = self.real["sendfile"](target, source, offset, count)
        if target in self.open_nodes:
            self.log.write(self.open_nodes[target], at, os.pread(source, sent, offset))
        return sent

    def truncate(self, path, length):
        self.real["truncate"](path, length)
        if (place := self.place(path)) is not None:
            self.log.resize(self.log.find(place), length)

    def ftruncate(self, descriptor, length):
        self.real["ftruncate"](descriptor, length)
        if descriptor in self.open_nodes:
            self.log.resize(self.open_nodes[descriptor], length)

    def fsync(self, descriptor):
        descriptor = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if descriptor not in self.open_nodes:
            return self.real["fsync"](descriptor)
        self.catch_up()
        return self.log.sync(self.open_nodes[descriptor])

    fdatasync = fsync

    def open_file(
        self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None
    ):
        """As the built-in `open`."""
        known = file in self.open_nodes if isinstance(file, int) else self.place(file) is not None
        if not known or not set(mode) & set("wax+"):
            return self.real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        self.catch_up()
        raw = _Raw(self, file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)


class _Raw(io.FileIO):
    """A file that says what is written to it."""

    def __init__(self, recorder: _Recorder, file, mode: str, closefd: bool, opener):
        super().__init__(file, mode, closefd, opener)
        self._recorder, self._descriptor = recorder, self.fileno()
        if self._descriptor not in recorder.open_nodes:
            recorder._opened(recorder.place(file), self._descriptor, "w" in mode)
        self._node = recorder.open_nodes[self._descriptor]
        self._appends = "a" in mode

    def write(self, data) -> int:
        at = os.fstat(self._descriptor).st_size if self._appends else self.tell()
        written = super().write(data)
        self._recorder.log.write(self._node, at, bytes(data)[:written])
        return written

    def truncate(self, size=None) -> int:
        size = super().truncate(size)
        self._recorder.log.resize(self._node, size)
        return size

    def close(self) -> None:
        if not self.closed:
            self._recorder.open_nodes.pop(self._descriptor, None)
            self._recorder.open_paths.pop(self._descriptor, None)
        super().close()


_NAMES = (
    "mkdir",
    "unlink",
    "remove",
    "rmdir",
    "rename",
    "replace",
    "link",
    "open",
    "close",
    "write",
    "truncate",
    "ftruncate",
    "fsync",
    "fdatasync",
    "sendfile",
)
