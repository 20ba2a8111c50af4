"""Read a request's body as a JSON object. Type, encoding, size and time are limited; each error has its status code."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from .access import Refused

MAX_BODY = 64 * 1024  # bytes, compressed and uncompressed
BODY_SECONDS = 30.0  # to receive it
ENCODINGS = {"", "identity", "gzip", "deflate"}  # values of Content-Encoding; aiohttp decompresses
CHARSETS = {"utf-8", "utf8"}


async def read_object(request: web.Request, optional: bool = False) -> dict:
    """Return the JSON object in the body. optional: {} for an empty body.

    Raises Refused: 400 if it is not a JSON object in UTF-8, or damaged; 408 if it does not arrive in time; 413 if it is
    too large; 415 for another type or encoding, above all for a body sent by a form or a link.
    """
    _check_type(request)
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    try:
        data = await asyncio.wait_for(_read(request), BODY_SECONDS)
    except asyncio.TimeoutError as error:
        raise Refused(408, f"the body did not arrive within {BODY_SECONDS:g} s") from error
    except (HttpProcessingError, web.RequestPayloadError, ConnectionError) as error:
        raise Refused(400, "the body is damaged or incomplete") from error
    empty = not data and "Content-Encoding" not in request.headers  # an incomplete compressed body may be empty too
    return {} if optional and empty else _parse(data)


async def end_unread(request: web.Request, answer: web.Response) -> web.Response:
    """Answer, and close the connection if a compressed body is unread: aiohttp would decompress all of it only to throw
    it away, while the whole server waits (200 kB that decompress to 200 MB: a second)."""
    if "Content-Encoding" in request.headers and not request.content.is_eof():
        answer.force_close()
        with contextlib.suppress(ConnectionError):  # the client may have disconnected
            await answer.prepare(request)
            await answer.write_eof()
        request.protocol.force_close()
    return answer


def _check_type(request: web.Request) -> None:
    kinds = request.headers.getall("Content-Type", [])
    charset = (request.charset or "utf-8").lower() if len(kinds) == 1 else ""
    if request.content_type != "application/json" or charset not in CHARSETS:
        raise Refused(415, "send the body as application/json, in UTF-8")
    encodings = request.headers.getall("Content-Encoding", [])
    if len(encodings) > 1 or not ENCODINGS.issuperset(encoding.lower() for encoding in encodings):
        raise Refused(415, "send the body uncompressed, or with the Content-Encoding gzip or deflate")


async def _read(request: web.Request) -> bytes:
    data = b""
    async for piece in request.content.iter_chunked(4096):
        data += piece
        if len(data) > MAX_BODY:
            raise _too_large()
    return data


def _too_large() -> Refused:
    return Refused(413, f"the body is larger than {MAX_BODY} bytes")


def _parse(data: bytes) -> dict:
    try:
        body = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_repeated_keys)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not valid JSON in UTF-8") from error
    if not isinstance(body, dict):
        raise Refused(400, 'the body must be an object, such as {"text": "A red ball spins on a meadow."}')
    return body


def _without_repeated_keys(pairs: list[tuple[str, object]]) -> dict:
    """Refuse a repeated key: programs differ in which value they use, so one may check what another ignores."""
    result = dict(pairs)
    if len(result) < len(pairs):
        ((repeated, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise Refused(400, f"{repeated[:100]!r} occurs twice in the body")
    return result
