"""Takes: films whose every chunk is on disk as soon as it is made, playable and continuable at any moment.

A take is its timeline and its latents; every cache is derived. `keys.py` says what a chunk follows from. A store
(`store.py`) is a folder of chunks by key (`chunks.py`) and of the takes that use them (`manifest.py`), counted by
`inventory.py` and kept to its size by `room.py`, while a film is rendered by `headroom.py`. `take.py` says what a take
is, `rendering.py` makes what is missing, after a beginning from `starts.py` and under a plan that `live.py` may change;
`verify.py` looks through a store.
"""

from .errors import TakeError, TakeMissing
from .keys import Given, Origin, ShotKeys, Vae, shots_of
from .live import Live, TooFast, TooLate
from .manifest import Manifest
from .observer import Observer
from .places import Place, check_place, check_rendered, find_place
from .rendering import render_take
from .starts import clip_chunks, clip_latents, extended, give_latents
from .store import TakeStore
from .take import Take, open_take, plan_take, reason_for, reuse

__all__ = [
    "Given",
    "Live",
    "Manifest",
    "Observer",
    "Origin",
    "Place",
    "ShotKeys",
    "Take",
    "TakeError",
    "TakeMissing",
    "TakeStore",
    "TooFast",
    "TooLate",
    "Vae",
    "check_place",
    "check_rendered",
    "clip_chunks",
    "clip_latents",
    "extended",
    "find_place",
    "give_latents",
    "open_take",
    "plan_take",
    "reason_for",
    "render_take",
    "reuse",
    "shots_of",
]
