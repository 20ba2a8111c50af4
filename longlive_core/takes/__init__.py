"""Takes: films whose every chunk is on disk as soon as it is made, playable and continuable at any moment.

A take is its timeline and its latents; every cache is derived. `keys.py` says what a chunk follows from, `store.py`
keeps chunks by key, `take.py` makes what is missing.
"""

from .keys import Origin, ShotKeys, shots_of
from .store import Manifest, TakeError, TakeStore
from .take import Take, open_take, plan_take, render_take, reuse

__all__ = ["Manifest", "Origin", "ShotKeys", "Take", "TakeError", "TakeStore", "open_take", "plan_take", "render_take",
           "reuse", "shots_of"]  # fmt: skip
