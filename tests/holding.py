"""As on Windows: what another program holds open can be neither replaced, renamed nor removed."""

import os
import time
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def holding(monkeypatch, *held, times=None):
    """Hold some files, or all in some folders, in a `with` block. times: attempts after which they are released.

    Yields the list of requested pauses, in seconds; there is no real pause.
    """
    failed, pauses = [], []
    replace, rename, unlink = os.replace, os.rename, Path.unlink

    def check(*paths):
        there = [Path(file) for file in held if os.path.exists(file)]
        if len(failed) != times and any(_touches(Path(path), file) for path in paths for file in there):
            failed.append(paths)
            raise PermissionError(13, "in use", str(paths[-1]))

    def guarded(function):
        def guard(source, target):
            check(source, target)
            function(source, target)

        return guard

    def guarded_unlink(path, missing_ok=False):
        if path.exists():
            check(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", guarded(replace))
        patch.setattr(os, "rename", guarded(rename))
        patch.setattr(Path, "unlink", guarded_unlink)
        patch.setattr(time, "sleep", pauses.append)
        yield pauses


def _touches(path: Path, held: Path) -> bool:
    """Whether what is done to `path` meets what is held: the file itself, or of a folder any file in it."""
    if held.is_dir():
        return held in (path, *path.parents)
    return path in (held, *held.parents)
