"""A gate in the server: a render waits at an event until a test has acted, however fast either of them is.

`place_gate` puts this file among the server's custom nodes, where ComfyUI imports it. A test then writes
`client.run(graph, on_event=at(client, "longlive.chunk", act, chunk=2))`: the render waits where it reports chunk
2 or a later one, `act(run)` is called, and the render continues.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

DEADLINE = 900.0  # seconds without a test that opens the gate
HOLD, OPEN = "/longlive_test_gate/hold", "/longlive_test_gate/open"
FLOOD, WAITING = "/longlive_test_gate/flood", "/longlive_test_gate/waiting"  # messages to clients: many, and how many
NODE_CLASS_MAPPINGS: dict = {}  # what makes this file a pack of custom nodes


def place_gate(custom_nodes: Path) -> None:
    """Make a server that starts later import this file."""
    custom_nodes.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, custom_nodes / "longlive_test_gate.py")


def at(client, event: str, act: Callable, **least) -> Callable:
    """An `on_event` that calls act(run) once, while the render waits at the first event of this kind whose data has
    at least these numbers, or these texts."""
    client.post(HOLD, {"event": event, "least": least})
    done = []

    def on_event(run, kind: str, data: dict) -> None:
        if not done and matches(kind, data, event, least):
            done.append(run)
            try:
                act(run)
            finally:
                client.post(OPEN, {})

    return on_event


def matches(kind: str, data: dict, event: str, least: dict) -> bool:
    if kind != event:
        return False
    return all(
        data.get(name) == value if isinstance(value, str) else data.get(name, -1) >= value
        for name, value in least.items()
    )


async def _json(data: dict):
    from aiohttp import web

    return web.json_response(data)


class Gate:
    """Sits between the nodes and ComfyUI's messages; holds the thread that sends the one it waits for."""

    def __init__(self, server):
        self.send, self.wanted, self.opened = server.send_sync, None, threading.Event()
        self.messages = server.messages
        server.send_sync = self
        server.routes.post(HOLD)(self.hold)
        server.routes.post(OPEN)(self.open)
        server.routes.post(FLOOD)(self.flood)
        server.routes.get(WAITING)(self.waiting)

    def __call__(self, event, data, sid=None):
        self.send(event, data, sid)
        wanted = self.wanted
        if wanted is None or not isinstance(data, dict) or not matches(event, data, wanted["event"], wanted["least"]):
            return
        self.wanted = None
        if not self.opened.wait(DEADLINE):
            raise RuntimeError(f"the gate was not opened within {DEADLINE:g} s")

    async def hold(self, request):
        from aiohttp import web

        self.opened.clear()
        self.wanted = await request.json()
        return web.json_response({})

    async def open(self, request):
        from aiohttp import web

        self.wanted = None
        self.opened.set()
        return web.json_response({})

    async def waiting(self, request):
        return await _json({"waiting": self.messages.qsize()})

    async def flood(self, request):
        """{"client": ..., "messages": ..., "size": characters of each}"""
        flood = await request.json()
        for _ in range(flood["messages"]):
            self.send("flood", {"text": "x" * flood["size"]}, flood["client"])
        return await _json({})


_SERVER = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
if _SERVER is not None:
    Gate(_SERVER)
