"""The store of takes in ComfyUI: the folder `longlive` in its output folder."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError

import folder_paths

from ..longlive_core.takes import TakeStore
from ..longlive_core.words.quantities import parse_size

FOLDER = "longlive"
LIMIT = "LONGLIVE_TAKES_LIMIT"  # environment variable: disk space for takes, such as 20GB
DEFAULT_LIMIT = "50GB"


def store_folder() -> str:
    return os.path.join(folder_paths.get_output_directory(), FOLDER)


def film_file(take: str, name: str = "film.mp4") -> dict[str, str]:
    """Return a take's film in the form in which ComfyUI's front end names files."""
    return {"filename": name, "subfolder": f"{FOLDER}/takes/{take}", "type": "output"}


def open_store() -> TakeStore:
    """Open the store with the user's limit. Raises TakeError if it is not writable, ValueError for an invalid limit."""
    return TakeStore(store_folder(), limit())


def reading_store() -> TakeStore:
    """Open the store for reading only. Raises TakeError if the folder is not a store."""
    return TakeStore(store_folder(), create=False)


def limit() -> int | None:
    """Return the limit in bytes; None without one."""
    text = os.environ.get(LIMIT, DEFAULT_LIMIT)
    try:
        return None if text.strip() == "0" else parse_size(text)
    except ArgumentTypeError as error:
        raise ValueError(f"the environment variable {LIMIT}: {error}; 0 means no limit") from error
