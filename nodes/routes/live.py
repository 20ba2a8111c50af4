"""The routes: the front end and other programs list takes, and watch and steer films while they are rendered.

    GET  /longlive/takes                 the stored takes
    GET  /longlive/takes/choices         Load Take's list, see `take_choices.py`
    GET  /longlive/live/<id>/status      id: of the take, or of the node that renders it
    POST /longlive/live/<id>/prompt      {"text": ..., "at": "now" or a time, "transition": ...}
    POST /longlive/live/<id>/finish      end the film after the chunk that is being rendered

A request only reads and writes a `Live`, never a model, and no name sent by a client is ever opened as a file. Answers
are JSON; errors are {"error": ...} with status 400, 403 (not allowed to call, see `access.py`), 404 (unknown), 409 (too
late to change anything), 429 (too many requests), or one of `request_body.py`. Handlers that read files or plan do so
in another thread, because all of ComfyUI's server waits for the thread that answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import math
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ...longlive_core.takes import Live, Manifest, TakeError, TakeStore, TooFast, TooLate
from .. import compat
from ..stores import film_file, reading_store, store_folder
from ..take_choices import list_choices
from . import access
from .access import Refused
from .request_body import end_unread, read_object

REMEMBERED = 100  # films, also finished ones, that are still answered for
FIELDS = {"text", "at", "transition"}


@dataclass
class Showing:
    """A film that a node renders now or rendered recently."""

    node: str
    prompt_id: str
    live: Live


_showings: list[Showing] = []  # the newest last
_listing = asyncio.Lock()  # only one request reads the store at a time: the server shares its threads


@contextlib.contextmanager
def showing(node: str, prompt_id: str, live: Live) -> Iterator[None]:
    """Let requests steer the film while it is rendered; afterwards they can still read its status for a while."""
    _showings.append(Showing(node, prompt_id, live))
    del _showings[:-REMEMBERED]
    try:
        yield
    finally:
        live.close()


def find(name: str) -> Showing | None:
    """Return the newest film of this node or take."""
    return next((s for s in reversed(_showings) if name == s.node or name in s.live.progress.takes), None)


# --- routes

Handler = Callable[[web.Request], Awaitable[web.Response]]


def add_routes(routes: web.RouteTableDef) -> None:
    """Register the routes with ComfyUI's server."""
    for method, path, handler in (
        ("GET", "/longlive/takes", list_takes),
        ("GET", "/longlive/takes/choices", list_choices),
        ("GET", "/longlive/live/{name}/status", status),
        ("POST", "/longlive/live/{name}/prompt", change_prompt),
        ("POST", "/longlive/live/{name}/finish", finish),
    ):
        routes.route(method, path)(_answered(handler, changes=method != "GET"))
    try:
        _allowed()
    except Refused as refusal:
        logging.error("LongLive: %s", refusal)  # each route answers with the same error


def _answered(handler: Handler, changes: bool) -> Handler:
    """Wrap a handler: check first who calls, and turn errors into answers."""

    @functools.wraps(handler)
    async def route(request: web.Request) -> web.Response:
        try:
            access.check(_call(request, changes), _allowed(), compat.server.cors_header())
            return await handler(request)
        except Refused as refusal:
            return await end_unread(request, _refusal(refusal.status, str(refusal)))
        except TooFast as error:
            return _refusal(429, str(error), {"Retry-After": str(math.ceil(error.retry_after))})
        except TooLate as error:
            return _refusal(409, str(error))

    return route


def _call(request: web.Request, changes: bool) -> access.Call:
    headers, target = request.headers, request.raw_path
    absolute = "" if target.startswith("/") else "/".join(target.split("/", 3)[:3])
    secure = request.transport is not None and request.transport.get_extra_info("sslcontext") is not None
    names = ("Host", "Origin", "Sec-Fetch-Site")
    return access.Call(*(tuple(headers.getall(name, ())) for name in names), absolute, changes, secure)


def _allowed() -> tuple[access.Place, ...]:
    try:
        return _read_allowed(os.environ.get(access.ALLOWED, ""))
    except ValueError as error:
        raise Refused(500, f"the environment variable {access.ALLOWED}: {error}") from error


_read_allowed = functools.lru_cache(maxsize=1)(access.read_allowed)


async def list_takes(request: web.Request) -> web.Response:
    try:
        async with _listing:
            text = await asyncio.to_thread(_all_takes)
    except TakeError as error:
        raise Refused(500, str(error)) from error
    return web.json_response(text=text)


def _all_takes() -> str:
    """Return the list as JSON, built in this thread: for a thousand takes it is some megabytes."""
    folder = Path(store_folder())
    if not (folder / "takes").is_dir():  # nothing rendered yet
        return '{"takes": []}'
    store = reading_store()
    stored = store.stored_keys()
    return json.dumps({"takes": [_described(store, take, stored) for take in store.takes()]})


def _described(store: TakeStore, take: Manifest | TakeError, stored: set[str]) -> dict:
    if isinstance(take, TakeError):
        return {"take": take.take, "error": str(take)}
    film = store.take_folder(take.id) / "film.mp4"
    return {
        "take": take.id,
        "created": take.created,
        "chunks": len(take.keys),
        "rendered": store.rendered(take, stored),
        "size": take.origin["size"],
        "seed": take.origin["seed"],
        "fps": take.encoding["fps"],
        "segments": take.segments,
        "timeline": take.timeline,
        "film": film_file(take.id) if film.is_file() else None,
    }


async def status(request: web.Request) -> web.Response:
    return _state(await _film(request))


async def change_prompt(request: web.Request) -> web.Response:
    body = await read_object(request)
    found = await _film(request)
    try:
        chunk = await asyncio.to_thread(found.live.prompt, *_read_prompt(body))
    except (TooFast, TooLate):
        raise
    except ValueError as error:
        raise Refused(400, str(error)) from error
    return _state(found, chunk=chunk)


async def finish(request: web.Request) -> web.Response:
    _check_fields(await read_object(request, optional=True), set())
    found = await _film(request)
    found.live.finish()
    return _state(found)


def _read_prompt(body: dict) -> tuple[str, str | float, str]:
    _check_fields(body, FIELDS)
    text, at, transition = body.get("text"), body.get("at", "now"), body.get("transition", "recache")
    if not isinstance(text, str) or not text.strip():
        raise Refused(400, '"text" must be the new prompt, a text')
    if isinstance(at, bool) or not isinstance(at, (str, int, float)):
        raise Refused(400, '"at" must be "now", a time such as "12s" or "16c", or seconds')
    if not isinstance(transition, str):
        raise Refused(400, '"transition" must be "recache", "keep" or "cut"')
    return text, at, transition


def _check_fields(body: dict, known: set[str]) -> None:
    unknown = sorted(set(body) - known)
    if unknown:
        allowed = f"allowed are {', '.join(sorted(known))}" if known else "the body must be empty or {}"
        raise Refused(400, f"unknown field {', '.join(map(repr, unknown))[:200]}: {allowed}")


async def _film(request: web.Request) -> Showing:
    """Return the film that a request names. Raises Refused: 404, or 409 for a take that is not being rendered."""
    name = request.match_info["name"]
    found = find(name)
    if found is not None:
        return found
    if await asyncio.to_thread(_is_stored, name):
        raise Refused(409, f"take {name} is not being rendered here; queue its timeline to continue it")
    raise Refused(404, "no film with this name is being rendered; give the id of its node or of its take")


def _is_stored(name: str) -> bool:
    with contextlib.suppress(TakeError):
        reading_store().read_manifest(name)
        return True
    return False


def _state(found: Showing, **more) -> web.Response:
    return web.json_response({"node": found.node, "prompt_id": found.prompt_id, **found.live.status(), **more})


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": message}, status=status, headers=headers)
