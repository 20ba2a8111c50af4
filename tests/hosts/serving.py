"""The pack's routes on a real port, behind the middleware of a real ComfyUI, without the rest of its server."""

from __future__ import annotations

import ast
import asyncio
import http.client
import ipaddress
import json
import logging
import socket
import ssl
import threading
import urllib
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

from aiohttp import ClientSession, web

from scripts.harness.server import comfyui_path

NODE, TAKE = "3", "0123456789ab"
PROMPT, FINISH, STATUS, TAKES = (
    f"/longlive/live/{NODE}/prompt",
    f"/longlive/live/{NODE}/finish",
    f"/longlive/live/{NODE}/status",
    "/longlive/takes",
)
JSON = (("Content-Type", "application/json"),)
TEXT = b'{"text": "A blue ball bounces on a meadow."}'
MIDDLEWARE = {"create_origin_only_middleware", "create_cors_middleware", "is_loopback", "compress_body"}
PATIENCE = 60.0  # seconds


def middleware() -> dict[str, Any]:
    """The functions of ComfyUI's server that see a request before a route does, read from its source: importing it
    would start half of ComfyUI. Empty where there is no ComfyUI."""
    if comfyui_path() is None:
        return {}
    tree = ast.parse((comfyui_path() / "server.py").read_text(encoding="utf-8"))
    tree.body = [part for part in tree.body if getattr(part, "name", None) in MIDDLEWARE]
    sockets = SimpleNamespace(
        AF_INET=socket.AF_INET,
        AF_INET6=socket.AF_INET6,
        SOCK_STREAM=socket.SOCK_STREAM,
        gaierror=socket.gaierror,
        getaddrinfo=_rebound,
    )
    names = {"web": web, "ipaddress": ipaddress, "socket": sockets, "urllib": urllib, "logging": logging}
    exec(compile(tree, "server.py", "exec"), names)  # noqa: S102 - ComfyUI's own source
    return names


def _rebound(name: str, *more) -> list[tuple]:
    """What a name server says that wants to reach this machine: every name is called so."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]


class Answer(NamedTuple):
    """status: 0 if the connection ended without an answer. said: the answer's JSON, or its text."""

    status: int
    said: Any
    headers: dict[str, str]


class Serving:
    """Servers in a thread of their own; a context manager.

    package: the pack, as `fakes.Host.pack` yields it. Attribute `live`: the film that is rendered now.
    """

    def __init__(self, package):
        self.nodes, self.bodies, self.core = (
            package.nodes.routes.live,
            package.nodes.routes.request_body,
            package.longlive_core,
        )
        self.arguments = package.nodes.compat.server.cli_args.args
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.runners: list[web.AppRunner] = []
        self.routes: list[tuple[str, str]] = []  # (method, path with NODE in it) of all that the pack has
        self.new_film()

    def __enter__(self) -> Serving:
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        for runner in reversed(self.runners):
            self.do(runner.cleanup())
        self.do(self._end_tasks())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    @staticmethod
    async def _end_tasks() -> None:
        """aiohttp waits some seconds for the rest of bodies that were refused."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def do(self, what):
        """Run a coroutine where the servers run; returns its result."""
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(PATIENCE)

    def new_film(self) -> None:
        plan = self.core.timeline.parse("0s A red ball spins on a meadow.").plan(20.0, 16)
        self.live = self.core.takes.Live(plan)
        self.live.became(TAKE)
        self.live.plan_for(0)
        self.nodes._showings[:] = [self.nodes.Showing(NODE, "a prompt", self.live)]

    @property
    def changed(self) -> bool:
        return self.live.finishing or "blue" in self.live.status()["timeline"]

    def serve(self, *middlewares, tls: ssl.SSLContext | None = None) -> int:
        """The pack's routes as ComfyUI registers them; returns the port."""
        routes, again = web.RouteTableDef(), web.RouteTableDef()
        self.nodes.add_routes(routes)
        self.routes = [(route.method, route.path.replace("{name}", NODE)) for route in routes]
        for route in routes:
            again.route(route.method, "/api" + route.path)(route.handler, **route.kwargs)
        application = web.Application(client_max_size=100 * 2**20, middlewares=middlewares)
        application.add_routes(again)
        application.add_routes(routes)
        return self._listen(application, tls)

    def proxy(self, port: int, host: str | None = None) -> int:
        """A reverse proxy before a server. host: what it writes in the place of Host; None: it stays as it is."""

        async def forward(request: web.Request) -> web.Response:
            headers = {name: value for name, value in request.headers.items() if name != "Content-Length"}
            headers |= {"X-Forwarded-Host": request.headers["Host"], "Host": host or request.headers["Host"]}
            url, body = f"http://127.0.0.1:{port}{request.raw_path}", await request.read()
            async with (
                ClientSession() as session,
                session.request(request.method, url, headers=headers, data=body or None) as answer,
            ):
                return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", forward)
        return self._listen(application)

    def _listen(self, application: web.Application, tls: ssl.SSLContext | None = None) -> int:
        async def listen() -> int:
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            self.runners.append(runner)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            return runner.addresses[0][1]

        return self.do(listen())


def request(
    method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", version: str = "1.1"
) -> bytes:
    """A request as sent: headers unchanged, each as often as given."""
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def send(port: int, data: bytes, hang_up: bool = False, tls: ssl.SSLContext | None = None) -> Answer:
    """Send bytes over a connection of their own. hang_up: nothing more is to be expected."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        connection = plain if tls is None else tls.wrap_socket(plain)
        connection.sendall(data)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection, method=data.partition(b" ")[0].decode())
        try:
            response.begin()
        except (http.client.HTTPException, ConnectionError):
            return Answer(0, None, {})
        return _read(response)


def ask(
    port: int,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    host: str | None = None,
    **options,
) -> Answer:
    """A whole request, with a Host and the length of its body."""
    own = [("Host", host or f"127.0.0.1:{port}"), ("Content-Length", str(len(body)))]
    return send(port, request(method, target, [*own, *headers], body), **options)


class Connection:
    """Many requests over one connection, to be quick."""

    def __init__(self, port: int):
        self.port, self.http = port, http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    def ask(self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Answer:
        self.http.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.http.putheader(name, value)
        self.http.endheaders(body)
        return _read(self.http.getresponse())


def _read(response: http.client.HTTPResponse) -> Answer:
    content = response.read()
    try:
        said = json.loads(content)
    except ValueError:
        said = content.decode(errors="replace")
    return Answer(response.status, said, dict(response.getheaders()))
