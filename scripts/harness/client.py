"""A client of ComfyUI's own HTTP and websocket interface: queue a prompt, follow it, fetch its files."""

from __future__ import annotations

import json
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import websocket

PREVIEW_IMAGE_WITH_METADATA = 4  # type of a binary websocket message, its first number
PATIENCE = 600.0  # seconds for one answer, long enough for a loaded machine
FINISHED = ("execution_success", "execution_error", "execution_interrupted")
CHUNK_EVENT = "longlive.chunk"  # this pack's event for every chunk of a render
OnEvent = Callable[["Run", str, dict], None]


class Rejected(Exception):
    """The server rejected a prompt before running anything.

    Attributes: messages (distinct messages by node id), answer (the server's JSON).
    """

    def __init__(self, answer: dict):
        self.answer = answer
        self.messages = {
            node: sorted({error["details"].partition(" - ")[2] or error["message"] for error in errors["errors"]})
            for node, errors in (answer.get("node_errors") or {}).items()
        }
        super().__init__(json.dumps(self.messages or answer))


@dataclass
class Run:
    """The result of a prompt.

    Attributes:
        status: one of FINISHED. error: the exception's message if it failed.
        outputs: the nodes' UI outputs by node id. events: (type, data) in order.
        previews: (node id, JPEG bytes) in order.
    """

    prompt_id: str
    status: str = ""
    error: str = ""
    outputs: dict[str, dict] = field(default_factory=dict)
    events: list[tuple[str, dict]] = field(default_factory=list)
    previews: list[tuple[str, bytes]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict]:
        """Return the data of all events of a type."""
        return [data for name, data in self.events if name == kind]

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose cached results were used."""
        return {node for data in self.of("execution_cached") for node in data["nodes"]}


def after_chunk(number: int, act: Callable[[Run], None]) -> OnEvent:
    """Return an `on_event` that calls act(run) once: when chunk `number` of a render, or a later one, is reported."""
    done = []

    def on_event(run: Run, kind: str, data: dict) -> None:
        if kind == CHUNK_EVENT and data["chunk"] >= number and not done:
            done.append(run)
            act(run)

    return on_event


class ComfyClient:
    """A websocket connection to a server; use it as a context manager."""

    def __init__(self, url: str):
        self.url, self.id = url, uuid.uuid4().hex
        address = f"{url.replace('http', 'ws', 1)}/ws?clientId={self.id}"
        self.socket = websocket.create_connection(address, timeout=PATIENCE)
        self.socket.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))

    def __enter__(self) -> ComfyClient:
        return self

    def __exit__(self, *error) -> None:
        self.socket.close()

    def get(self, path: str) -> Any:
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as response:
            return response.read()

    def post(self, path: str, body: dict) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise Rejected(json.loads(error.read())) from None

    def run(
        self, prompt: dict, workflow: dict | None = None, on_event: OnEvent | None = None, timeout: float = 1800.0
    ) -> Run:
        """Queue a prompt (API format) and follow it to its end.

        Args:
            workflow: its UI format, which Save Video writes into the film.
            on_event: called with every event of this prompt.
            timeout: seconds; after that the prompt is interrupted and TimeoutError is raised.
        """
        run = Run(str(uuid.uuid4()))
        extra = {"extra_pnginfo": {"workflow": workflow}} if workflow else {}
        self.post("/prompt", {"prompt": prompt, "client_id": self.id, "prompt_id": run.prompt_id, "extra_data": extra})
        deadline = time.monotonic() + timeout
        while not run.status:
            self._receive(run, on_event, deadline)
        self._read_history(run, deadline)
        return run

    def interrupt(self, run: Run) -> None:
        self.post("/interrupt", {"prompt_id": run.prompt_id})

    def finishing_after(self, chunks: int) -> OnEvent:
        """Return an `on_event` that ends every film after that many chunks, or a few more if they were stored."""

        def finish(run: Run, kind: str, data: dict) -> None:
            if kind == CHUNK_EVENT and data["chunk"] + 1 == chunks:
                self.post(f"/longlive/live/{data['take']}/finish", {})

        return finish

    def view(self, file: dict) -> bytes:
        """Return the content of a file that a node reported as {filename, subfolder, type}."""
        query = urllib.parse.urlencode({key: file[key] for key in ("filename", "subfolder", "type")})
        return self.read(f"/view?{query}")

    def _receive(self, run: Run, on_event: OnEvent | None, deadline: float) -> None:
        if time.monotonic() > deadline:
            self.interrupt(run)
            raise TimeoutError(f"the prompt did not end in time; last event: {run.events[-1:]}")
        try:
            message = self.socket.recv()
        except websocket.WebSocketTimeoutException:
            return
        if isinstance(message, bytes):
            self._take_preview(run, message)
            return
        event = json.loads(message)
        kind, data = event["type"], event.get("data") or {}
        if data.get("prompt_id") != run.prompt_id:
            return
        run.events.append((kind, data))
        if kind in FINISHED:
            run.status, run.error = kind, data.get("exception_message", "").strip()
        if on_event is not None:
            on_event(run, kind, data)

    @staticmethod
    def _take_preview(run: Run, message: bytes) -> None:
        kind, length = struct.unpack(">II", message[:8])
        if kind == PREVIEW_IMAGE_WITH_METADATA:
            header = json.loads(message[8 : 8 + length])
            run.previews.append((header["node_id"], message[8 + length :]))

    def _read_history(self, run: Run, deadline: float) -> None:
        """Read the history, which is written just after the last event; a `status` message follows it."""
        while run.prompt_id not in (history := self.get(f"/history/{run.prompt_id}")):
            if time.monotonic() > deadline:
                raise TimeoutError("the prompt ended, but its history does not appear")
            self._receive(Run(""), None, deadline)
        run.outputs = history[run.prompt_id]["outputs"]
