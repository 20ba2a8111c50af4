"""Disks for tests: small, full, read-only ones, where mounting is permitted; elsewhere the system's errors."""

import builtins
import contextlib
import errno
import io
import os
import subprocess
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, options: str):
    """A disk of its own in a folder, such as "size=4m" or "nr_inodes=40"; yields the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder: Path):
    """While the disk in that folder takes no writes."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def fill_bytes(folder: Path) -> list[Path]:
    """Files that leave no byte; returns them."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096) == 4096:
            pass
    return [path]


def fill_inodes(folder: Path) -> list[Path]:
    """Files that leave no room for one more; returns them."""
    made = []
    with contextlib.suppress(OSError):
        while True:
            path = folder / f"filler{len(made)}"
            path.touch()
            made.append(path)
    return made


@contextlib.contextmanager
def refusing_writes(monkeypatch, folder: Path, code: int = errno.EROFS):
    """While whatever would change something in a folder fails, as the system says it on a read-only or a full disk."""

    def check(path):
        if isinstance(path, (str, os.PathLike)) and folder in (Path(path), *Path(path).parents):
            raise OSError(code, os.strerror(code), os.fspath(path))

    def guarded(function):
        def guard(*paths, **named):
            for path in paths[:2]:
                check(path)
            return function(*paths, **named)

        return guard

    def guarded_open(function):
        def guard(path, mode="r", *args, **named):
            if isinstance(path, (str, os.PathLike)) and set(mode) & set("wax+"):
                check(path)
            return function(path, mode, *args, **named)

        return guard

    def low_open(path, flags, *args, original=os.open, **named):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            check(path)
        return original(path, flags, *args, **named)

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "link", "symlink", "utime"):
            patch.setattr(os, name, guarded(getattr(os, name)))
        patch.setattr(os, "open", low_open)
        patch.setattr(io, "open", guarded_open(io.open))
        patch.setattr(builtins, "open", guarded_open(builtins.open))
        yield
