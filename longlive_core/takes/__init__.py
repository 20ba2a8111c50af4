"""Takes: films whose every chunk is on disk as soon as it is made, playable and continuable at any moment.

A take is its timeline and its latents; every cache is derived. `keys.py` says what a chunk follows from. A store
(`store.py`) is a folder of chunks by key (`chunks.py`) and of the takes that use them (`manifest.py`), counted by
`inventory.py` and kept to its size by `room.py`, while a film is rendered by `headroom.py`. `take.py` says what a take
is, `rendering.py` makes what is missing, after a beginning from `starts.py` and under a plan that `live.py` may change;
`verify.py` looks through a store.
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
