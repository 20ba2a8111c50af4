"""Films that are being rendered now, as the front end and other programs see and steer them over HTTP.

    GET  /longlive/takes                 what the store holds
    GET  /longlive/takes/choices         Load Take's list, see `choices.py`
    GET  /longlive/live/<id>/status      id: of the take, or of the node that renders it
    POST /longlive/live/<id>/prompt      {"text": ..., "at": "now" or a time, "transition": ...}
    POST /longlive/live/<id>/finish      end the film after the chunk that is being made

A request only reads and writes a `Live`, never a model; no name that a client sends is ever opened as a file. Answers
are JSON; mistakes are {"error": ...} with status 400, 404 (not known here), 409 (nothing can be changed any more), 413
or 415. Foreign origins are refused by ComfyUI itself, for all routes alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ..longlive_core.takes import Live, Manifest, TakeError, TakeStore, TooLate
from .choices import list_choices
from .stores import film_file, reading_store, store_folder

MAX_BODY = 64 * 1024  # bytes
REMEMBERED = 100  # finished films that still answer
FIELDS = {"text", "at", "transition"}


@dataclass
class Showing:
    """A film that a node renders, or rendered a moment ago."""

    node: str
    prompt_id: str
    live: Live


_showings: list[Showing] = []  # the newest last


@contextlib.contextmanager
def showing(node: str, prompt_id: str, live: Live) -> Iterator[None]:
    """While the film is rendered it can be steered; then it stays known for a while."""
    _showings.append(Showing(node, prompt_id, live))
    del _showings[:-REMEMBERED]
    try:
        yield
    finally:
        live.close()


def find(name: str) -> Showing | None:
    """The newest film of this node or take."""
    return next((s for s in reversed(_showings) if name in (s.node, *s.live.progress.takes)), None)


# --- routes


def add_routes(routes: web.RouteTableDef) -> None:
    """Register the routes with ComfyUI's server."""
    routes.get("/longlive/takes")(list_takes)
    routes.get("/longlive/takes/choices")(list_choices)
    routes.get("/longlive/live/{name}/status")(status)
    routes.post("/longlive/live/{name}/prompt")(change_prompt)
    routes.post("/longlive/live/{name}/finish")(finish)


async def list_takes(request: web.Request) -> web.Response:
    try:
        return web.json_response({"takes": await asyncio.to_thread(_all_takes)})
    except TakeError as error:
        return _refusal(500, str(error))


def _all_takes() -> list[dict]:
    folder = Path(store_folder())
    if not (folder / "takes").is_dir():  # nothing was rendered yet
        return []
    store = reading_store()
    return [_described(store, take) for take in store.takes()]


def _described(store: TakeStore, take: Manifest | TakeError) -> dict:
    if isinstance(take, TakeError):
        return {"take": take.take, "error": str(take)}
    film = store.take_folder(take.id) / "film.mp4"
    return {
        "take": take.id, "created": take.created, "chunks": len(take.keys), "rendered": store.rendered(take),
        "size": take.origin["size"], "seed": take.origin["seed"], "fps": take.encoding["fps"],
        "segments": take.segments, "timeline": take.timeline, "film": film_file(take.id) if film.is_file() else None,
    }  # fmt: skip


async def status(request: web.Request) -> web.Response:
    found = find(request.match_info["name"])
    return _unknown(request) if found is None else _state(found)


async def change_prompt(request: web.Request) -> web.Response:
    found = find(request.match_info["name"])
    if found is None:
        return _unknown(request)
    try:
        text, at, transition = _read_prompt(await _body(request))
        chunk = found.live.prompt(text, at, transition)
    except _Refused as refusal:
        return _refusal(refusal.status, str(refusal))
    except TooLate as error:
        return _refusal(409, str(error))
    except ValueError as error:
        return _refusal(400, str(error))
    return _state(found, chunk=chunk)


async def finish(request: web.Request) -> web.Response:
    found = find(request.match_info["name"])
    if found is None:
        return _unknown(request)
    try:
        found.live.finish()
    except TooLate as error:
        return _refusal(409, str(error))
    return _state(found)


class _Refused(Exception):
    def __init__(self, status: int, message: str):
        self.status = status
        super().__init__(message)


async def _body(request: web.Request) -> dict:
    """The request's JSON object, of bounded size."""
    if request.content_type != "application/json":
        raise _Refused(415, "send the body as application/json")
    data = b""
    async for piece in request.content.iter_chunked(4096):
        data += piece
        if len(data) > MAX_BODY:
            raise _Refused(413, f"the body is larger than {MAX_BODY} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, "the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise _Refused(400, 'the body is an object, such as {"text": "A red ball spins on a meadow."}')
    return body


def _read_prompt(body: dict) -> tuple[str, str | float, str]:
    unknown = sorted(set(body) - FIELDS)
    if unknown:
        raise _Refused(400, f"unknown field {', '.join(map(repr, unknown))}: allowed are {', '.join(sorted(FIELDS))}")
    text, at, transition = body.get("text"), body.get("at", "now"), body.get("transition", "recache")
    if not isinstance(text, str) or not text.strip():
        raise _Refused(400, '"text" is the new prompt, a text')
    if isinstance(at, bool) or not isinstance(at, (str, int, float)):
        raise _Refused(400, '"at" is "now", a time such as "12s" or "16c", or seconds')
    if not isinstance(transition, str):
        raise _Refused(400, '"transition" is "recache", "keep" or "cut"')
    return text, at, transition


def _state(found: Showing, **more) -> web.Response:
    return web.json_response({"node": found.node, "prompt_id": found.prompt_id, **found.live.status(), **more})


def _unknown(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    with contextlib.suppress(TakeError):
        reading_store().read_manifest(name)
        return _refusal(409, f"take {name} is not being rendered here; queue its timeline to go on with it")
    return _refusal(404, "no film of this name is being rendered; give the id of its node or of its take")


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
