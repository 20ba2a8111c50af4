"""Takes: films whose every chunk is on disk as soon as it is rendered, so that any film can be resumed and extended.

A take is its timeline and its latents; every cache is derived from these.

Definition: `keys.py` hashes everything that determines a chunk; `manifest.py` describes a take, `manifest_file.py`
reads and writes its file; `take.py` plans a take and finds its stored chunks; `differences.py` says why chunks are
rendered again.

On disk: a store (`store.py`, over the paths and locks in `folder.py`, `locks.py`) is a folder of chunks by key
(`chunks.py`), each file with a checksum (`checksums.py`), written whole or not at all (`disk.py`). `inventory.py` reads
what a store holds, `usage.py` measures it, `eviction.py` chooses takes to remove and `removal.py` removes them;
`verify.py` checks every file.

Rendering: `rendering.py` computes what is missing, after start chunks (`start_chunks.py`), under a plan that `live.py`
may change; each change gives the take a new version (`versions.py`). `limit.py` keeps the store within its
limit during that, and an `observer.py` follows.

Reading: `frame_ranges.py` returns frames and latents, `branch_points.py` finds where to branch, `labels.py` describes
takes in lists; `errors.py` has what can go wrong.
"""

from .branch_points import BranchPoint, check_branch_point, check_rendered, find_branch_point
from .errors import TakeError, TakeMissing
from .keys import Origin, ShotKeys, StartChunks, VaeIdentity, shots_of
from .live import Live, TooFast, TooLate
from .manifest import Manifest
from .observer import Observer
from .rendering import render_take
from .start_chunks import clip_chunks, clip_latents, extended, store_start_latents
from .store import TakeStore
from .take import Take, open_take, plan_take, reason_for, reuse

__all__ = [
    "StartChunks",
    "Live",
    "Manifest",
    "Observer",
    "Origin",
    "BranchPoint",
    "ShotKeys",
    "Take",
    "TakeError",
    "TakeMissing",
    "TakeStore",
    "TooFast",
    "TooLate",
    "VaeIdentity",
    "check_branch_point",
    "check_rendered",
    "clip_chunks",
    "clip_latents",
    "extended",
    "find_branch_point",
    "store_start_latents",
    "open_take",
    "plan_take",
    "reason_for",
    "render_take",
    "reuse",
    "shots_of",
]
