"""Three clients that act at random on one server for some time, and the server's state afterwards.

`ACTIONS` is the table of what they do and how often. No client waits for a film, and none minds being refused: a take
may be removed under a render, the disk may be full, another client may cancel. What must not be is anything that stays:
see `Leftovers`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import websocket

from longlive_core.takes import Manifest, TakeError, TakeStore
from scripts.harness.client import ComfyClient, Rejected
from scripts.harness.graphs import SAMPLER
from scripts.harness.server import ComfyServer

from .takes import STORY, story

SEEDS = 5  # so few that films are met again
PROMPTS = (
    "A red ball rolls.",
    "A blue cube sinks {cut}",
    "A star spins {keep}",
    "\u05db\u05d3\u05d5\u05e8 \u202eadom",
    "an \x1b[31mescape\x07",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 dance {blend=1c}",
)
MOST_DEAF = 3
DEADLINE = 600.0  # seconds for what is queued to end


class Visitor:
    """A client: it acts, and a thread of its own reads what the server tells it.

    Attributes: rng. graphs: those it queued. ids: their prompts. done: how often each action was done, or refused.
    """

    def __init__(self, server: ComfyServer, disk: Path, name: str):
        self.server, self.disk, self.rng = server, disk, random.Random(name)
        self.folder = server.base / "output" / "longlive"
        self.graphs: list[dict] = []
        self.ids: list[str] = []
        self.done: Counter[str] = Counter()
        self.heard = 0  # messages
        self.connection = ComfyClient(server.url)
        self.connection.socket.settimeout(None)
        self._deaf: list[websocket.WebSocket] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            while self.connection.socket.recv():
                self.heard += 1

    def act(self) -> None:
        """One action, drawn from the table."""
        name = self.rng.choices([*ACTIONS], [often for often, _ in ACTIONS.values()])[0]
        try:
            ACTIONS[name][1](self)
            self.done[name] += 1
        except Rejected:
            self.done[f"{name}: refused (400)"] += 1
        except urllib.error.HTTPError as error:
            self.done[f"{name}: refused ({error.code})"] += 1
        except TakeError:
            self.done[f"{name}: refused (TakeError)"] += 1

    def queue(self, graph: dict, client: str | None = None) -> None:
        prompt = str(uuid.uuid4())
        self.connection.post(
            "/prompt", {"prompt": graph, "client_id": client or self.connection.id, "prompt_id": prompt}
        )
        self.graphs.append(graph)
        self.ids.append(prompt)

    def store(self, limit: int | None = None) -> TakeStore:
        return TakeStore(self.folder, limit)

    def takes(self) -> list[str]:
        return [take.id for take in self.store().takes() if isinstance(take, Manifest)]

    def deaf_socket(self) -> str:
        """The id of a client that is connected, and never reads."""
        client, small = uuid.uuid4().hex, ((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)
        address = f"{self.server.url.replace('http', 'ws', 1)}/ws?clientId={client}"
        self._deaf.append(websocket.create_connection(address, sockopt=small, timeout=60.0))
        return client

    def close(self) -> None:
        self.connection.socket.shutdown()
        for each in self._deaf:
            each.shutdown()
        self._deaf.clear()


# --- actions


def queue(visitor: Visitor) -> None:
    rng = visitor.rng
    visitor.queue(
        story(
            rng.randrange(SEEDS),
            rng.choice(("keep partial", "discard")),
            filename_prefix="soak",
            duration=rng.choice((5.1, 6.5, 9.0)),
        )
    )


def queue_endless(visitor: Visitor) -> None:
    visitor.queue(story(visitor.rng.randrange(SEEDS), filename_prefix="soak", duration=0.0))


def edit(visitor: Visitor) -> None:
    """Render a film again with another last prompt: its first chunks are stored."""
    text = f"{STORY.rpartition(chr(10))[0]}\n5s {visitor.rng.choice(PROMPTS)}"
    visitor.queue(story(visitor.rng.randrange(SEEDS), filename_prefix="soak", text=text))


def queue_again(visitor: Visitor) -> None:
    if visitor.graphs:
        visitor.queue(visitor.rng.choice(visitor.graphs))


def cancel(visitor: Visitor) -> None:
    visitor.connection.post("/interrupt", {})


def unqueue(visitor: Visitor) -> None:
    visitor.connection.post("/queue", {"delete": visitor.rng.sample(visitor.ids, min(2, len(visitor.ids)))})


def clear_queue(visitor: Visitor) -> None:
    visitor.connection.post("/queue", {"clear": True})


def live_prompt(visitor: Visitor) -> None:
    at = visitor.rng.choice(("now", "now", "3s", "12c"))
    visitor.connection.post(f"/longlive/live/{SAMPLER}/prompt", {"text": visitor.rng.choice(PROMPTS), "at": at})


def finish(visitor: Visitor) -> None:
    visitor.connection.post(f"/longlive/live/{SAMPLER}/finish", {})


def remove(visitor: Visitor) -> None:
    """As the command line does, from another process than the server's."""
    for take in visitor.takes()[:1]:
        visitor.store().remove(take)


def evict(visitor: Visitor) -> None:
    visitor.store(visitor.store().size() // 2).make_room(0, "")


def look(visitor: Visitor) -> None:
    visitor.connection.get("/longlive/takes")
    visitor.connection.get("/object_info/LongLiveLoadTake")


def watch(visitor: Visitor) -> None:
    """A player that requests a growing film, and disconnects after its first bytes."""
    for take in visitor.takes()[:3]:
        address = f"{visitor.server.url}/view?filename=growing.mp4&type=output&subfolder=longlive/takes/{take}"
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(address, timeout=60.0) as film:
            film.read(100)


def fill_disk(visitor: Visitor) -> None:
    """Nearly, or to the last byte."""
    left = os.statvfs(visitor.disk)
    size = left.f_bavail * left.f_frsize - visitor.rng.choice((0, 0, 20_000))
    with contextlib.suppress(OSError), (visitor.disk / f"filler{visitor.rng.randrange(3)}").open("wb", 0) as file:
        file.write(b"\0" * max(0, size))


def empty_disk(visitor: Visitor) -> None:
    """Free the disk as its user would: remove what fills it, and the films that Save Video wrote there."""
    for path in (*visitor.disk.glob("filler*"), *visitor.disk.glob("soak*")):
        path.unlink(missing_ok=True)


def stop_reading(visitor: Visitor) -> None:
    """A film for a client that is connected but reads no messages."""
    if len(visitor._deaf) < MOST_DEAF:
        visitor.queue(story(visitor.rng.randrange(SEEDS), filename_prefix="soak"), visitor.deaf_socket())


def hang_up(visitor: Visitor) -> None:
    """Render a film for a client that disconnects."""
    visitor.queue(story(visitor.rng.randrange(SEEDS), filename_prefix="soak"), visitor.deaf_socket())
    visitor._deaf.pop().shutdown()


ACTIONS: dict[str, tuple[int, Callable[[Visitor], None]]] = {
    "queue": (10, queue),
    "queue without end": (2, queue_endless),
    "edit": (10, edit),
    "queue again": (6, queue_again),
    "cancel": (6, cancel),
    "unqueue": (3, unqueue),
    "clear the queue": (1, clear_queue),
    "live prompt": (14, live_prompt),
    "finish": (8, finish),
    "remove": (8, remove),
    "evict": (4, evict),
    "look": (8, look),
    "watch": (6, watch),
    "fill the disk": (3, fill_disk),
    "empty the disk": (12, empty_disk),
    "stop reading": (1, stop_reading),
    "hang up": (2, hang_up),
}


# --- all of it


@dataclass
class Held:
    """What a server's process holds while nothing is queued."""

    memory: int  # bytes, VmRSS
    handles: int
    threads: int

    @classmethod
    def of(cls, server: ComfyServer) -> Held:
        folder = Path(f"/proc/{server.process.pid}")
        lines = (folder / "status").read_text().splitlines()
        memory = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))
        return cls(memory, len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")))


@dataclass
class Leftovers:
    """Return files that would never be removed: all of these lists must be empty.

    Attributes:
        unfinished: .tmp and .part anywhere, and growing films beside the whole one. (Alone it is what there is of a
            film that ended on a full disk; it is removed when its take is rendered again.)
        orphans: files of chunks that no take names. removed: folders of removed takes. damaged: files set aside.
    """

    unfinished: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, base: Path, store: TakeStore) -> Leftovers:
        found, names = cls(), [path for path in base.rglob("*") if "custom_nodes" not in path.parts]
        keys = {key for take in store.takes() if isinstance(take, Manifest) for key in take.keys}
        for path in names:
            film = path.with_name("film.mp4")
            shown = path.name.startswith("growing") and film.is_file() and film.stat().st_mtime >= path.stat().st_mtime
            if shown or path.suffix in (".tmp", ".part"):
                found.unfinished.append(path.name)
            elif path.suffix in (".removed", ".damaged"):
                (found.removed if path.suffix == ".removed" else found.damaged).append(path.name)
            elif path.parent.parent == store.chunks.folder and path.name.partition(".")[0] not in keys:
                found.orphans.append(path.name)
        return found


def act_for(visitors: list[Visitor], actions: int, seconds: float) -> float:
    """Run this many actions of all visitors, spread over a time; return the slowest answer, in seconds."""
    slowest = [0.0]

    def visit(number: int, visitor: Visitor) -> None:
        for action in range(number, actions, len(visitors)):
            wait = began + seconds * action / actions - time.monotonic()
            time.sleep(max(0.0, wait))
            request_began = time.monotonic()
            visitor.act()
            slowest[0] = max(slowest[0], time.monotonic() - request_began)

    began, failed = time.monotonic(), []

    def guarded(number: int, visitor: Visitor) -> None:
        try:
            visit(number, visitor)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=pair) for pair in enumerate(visitors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return slowest[0]


def settle(visitor: Visitor) -> None:
    """Nothing is queued, and nothing is rendered any more."""
    empty_disk(visitor)
    deadline = time.monotonic() + DEADLINE
    clear_queue(visitor)
    while any((waiting := visitor.connection.get("/queue")).values()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the server does not come to its end: {json.dumps(waiting)[:500]}")
        cancel(visitor)
        time.sleep(0.5)


def endings(visitor: Visitor) -> Counter[str]:
    """How every prompt ended; of an error its kind and its first words."""
    found: Counter[str] = Counter()
    for run in visitor.connection.get("/history").values():
        kinds = dict(run["status"]["messages"])
        error = kinds.get("execution_error")
        if error is None:
            found["cancelled" if "execution_interrupted" in kinds else "done"] += 1
        else:
            words = re.sub(r"[0-9a-f]{8,}|'[^']*'|[0-9.]+ [kMG]B", "...", error["exception_message"])
            found[f"{error['exception_type'].rpartition('.')[2]}: {' '.join(words.split())[:100]}"] += 1
    return found
