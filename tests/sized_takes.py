"""Takes whose files have chosen sizes and ages, for tests of removal from a store."""

import os
import time

from longlive_core.takes import TakeStore
from longlive_core.takes.manifest import take_id
from tests.made_takes import manifest

HOUR, DAY = 3600.0, 24 * 3600.0
UNITS = ("aaaaaaaa", "bbbbbbbb")


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
    """Store the take with files of this many bytes; existing files stay."""
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
    """Return the store, with a limit this many bytes above its size."""
    return TakeStore(store.folder, limit=store.size() + spare)
