"""Load Take's list: the front end reads it over HTTP (`web/takes.js`), no node's schema depends on what is stored.

GET /longlive/takes/choices     {"choices": [a label for every take]}, or {"error": ...} with status 500
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from ..longlive_core.files.fields import shown
from ..longlive_core.takes import TakeError
from ..longlive_core.takes.labels import take_choices
from ..longlive_core.words.wording import shorten
from .stores import reading_store, store_folder

NEWEST = "newest"
_LONGEST = 1000  # characters of a name; labels of all versions are shorter
_ID = re.compile(r"(?:.*\[)?([0-9a-f]{12})\]?\s*", re.DOTALL)  # alone, or in brackets at a label's end
_ID_BEFORE = re.compile(r"([0-9a-f]{12}) ")  # followed by first words
_HOW = "choose one from the list, or give its id, which is twelve hexadecimal digits, or newest"


async def list_choices(request: web.Request) -> web.Response:
    try:
        return web.json_response({"choices": await asyncio.to_thread(choices)})
    except TakeError as error:
        return web.json_response({"error": str(error)}, status=500)


def choices() -> list[str]:
    """A label for every take, the one rendered last first; those that cannot be read come last, and say so.

    TakeError where there can be no takes.
    """
    if not (Path(store_folder()) / "takes").is_dir():
        return []
    return take_choices(reading_store())


def id_of(name: Any) -> str:
    """The id in a choice of this version or an earlier one. TakeError where there is none; it may be anything."""
    if not isinstance(name, str):
        raise TakeError(f"{shown(name)} names no take: {_HOW}")
    match = None if len(name) > _LONGEST else _ID.fullmatch(name) or _ID_BEFORE.match(name)
    if match is None:
        raise TakeError(f"{shorten(name, 60)!r} names no take: {_HOW}")
    return match[1]
