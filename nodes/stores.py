"""Where takes lie in ComfyUI: `longlive` in its output folder."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError

import folder_paths

from ..longlive_core.takes import TakeStore
from ..longlive_core.words.quantities import parse_size

FOLDER = "longlive"
LIMIT = "LONGLIVE_TAKES_LIMIT"  # environment variable: what takes may fill, such as 20GB
DEFAULT_LIMIT = "50GB"


def store_folder() -> str:
    return os.path.join(folder_paths.get_output_directory(), FOLDER)


def film_file(take: str, name: str = "film.mp4") -> dict[str, str]:
    """A take's film as the front end names files."""
    return {"filename": name, "subfolder": f"{FOLDER}/takes/{take}", "type": "output"}


def open_store() -> TakeStore:
    """The store, with the limit that the user set. TakeError where it cannot be written; ValueError for a bad limit."""
    return TakeStore(store_folder(), limit())


def reading_store() -> TakeStore:
    """The store as it is, to read in; nothing is written. TakeError where it is none."""
    return TakeStore(store_folder(), create=False)


def limit() -> int | None:
    """Bytes; None without a limit."""
    asked = os.environ.get(LIMIT, DEFAULT_LIMIT)
    try:
        return None if asked.strip() == "0" else parse_size(asked)
    except ArgumentTypeError as error:
        raise ValueError(f"the environment variable {LIMIT}: {error}; 0 is no limit") from error
