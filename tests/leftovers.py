"""Files in a store that belong to none of its takes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from longlive_core.takes import Manifest, TakeStore

from . import made_takes

A_DAY = 24 * 3600.0
OTHER = 0xD0


def unaccounted(store: TakeStore) -> list[str]:
    """Files and folders that no take of a store accounts for, relative to it."""
    names = {".lock", "chunks", "takes"}
    for take in store.takes():
        if not isinstance(take, Manifest):
            continue
        names |= {f"takes/{take.id}{name}" for name in ("", "/take.json", "/film.mp4", "/.lock")}
        for key in take.keys:
            names |= {f"chunks/{key[:2]}{name}" for name in ("", f"/{key}.safetensors", f"/{key}.{take.unit}.mp4")}
    there = (path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*"))
    return sorted(set(there) - names)


def days_later(folder: Path) -> list[str]:
    """What no take accounts for after two days, on each of which another take was removed; empty folders may stay.

    No clock is changed: files get older.
    """
    store, long_ago = TakeStore(folder), time.time() - 2 * A_DAY
    for _ in range(2):  # a folder is removed a day after the last file in it
        for name in unaccounted(store):
            os.utime(folder / name, (long_ago, long_ago))
        other = made_takes.manifest(OTHER, "0s a", 1.0)
        made_takes.place(store, other)
        store.remove(other.id)
    return [name for name in unaccounted(store) if not (name.startswith("chunks/") and (folder / name).is_dir())]
