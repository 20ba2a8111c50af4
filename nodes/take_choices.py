"""Load Take's list. The front end reads it over HTTP (`web/takes.js`), so no node's schema depends on stored takes.

GET /longlive/takes/choices     {"choices": [a label for every take]}, or {"error": ...} with status 500
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from ..longlive_core.files.fields import short_repr
from ..longlive_core.takes import TakeError
from ..longlive_core.takes.labels import take_choices
from ..longlive_core.words.wording import shorten
from .stores import reading_store, store_folder

NEWEST = "newest"
_LONGEST = 1000  # characters of a name; the labels of all versions are shorter
_ID = re.compile(r"(?:.*\[)?([0-9a-f]{12})\]?\s*", re.DOTALL)  # alone, or in brackets at the end of a label
_ID_BEFORE = re.compile(r"([0-9a-f]{12}) ")  # followed by the first words of the prompt
_HOW = "choose one from the list, or give its id (twelve hexadecimal digits) or newest"


async def list_choices(request: web.Request) -> web.Response:
    try:
        return web.json_response({"choices": await asyncio.to_thread(choices)})
    except TakeError as error:
        return web.json_response({"error": str(error)}, status=500)


def choices() -> list[str]:
    """Return a label for every take, the one rendered last first; unreadable takes come last and are marked so.

    Raises TakeError if the folder cannot hold takes.
    """
    if not (Path(store_folder()) / "takes").is_dir():
        return []
    return take_choices(reading_store())


def id_of(name: Any) -> str:
    """Return the id in a label of this or an earlier version. `name` may be any value; TakeError if it has no id."""
    if not isinstance(name, str):
        raise TakeError(f"{short_repr(name)} does not name a take: {_HOW}")
    match = None if len(name) > _LONGEST else _ID.fullmatch(name) or _ID_BEFORE.match(name)
    if match is None:
        raise TakeError(f"{shorten(name, 60)!r} does not name a take: {_HOW}")
    return match[1]
