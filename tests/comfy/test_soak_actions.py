"""500 actions of three clients on one server in ten minutes, drawn at random (`soak.py`), and what is left of them.

LONGLIVE_SOAK=1 python -m pytest -s tests/comfy/test_soak_actions.py

takes a quarter of an hour; LONGLIVE_SOAK_SECONDS makes it shorter. With LONGLIVE_RESULTS=FOLDER what was found is
written there as takes_soak.json (docs/results has it).
"""

import datetime
import json
import os
import platform
import re
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from scripts.harness.client import ComfyClient
from scripts.harness.models import place_models
from scripts.harness.server import ComfyServer, comfyui_path

from .gate import FLOOD, WAITING, place_gate
from .soak import DEADLINE, Held, Leftovers, Visitor, act_for, endings, look, settle
from .takes import frames, story
from .tiny_models import place_tiny

pytestmark = [
    pytest.mark.comfy,
    pytest.mark.skipif(os.environ.get("LONGLIVE_SOAK") != "1", reason="takes minutes: set LONGLIVE_SOAK=1"),
]
SECONDS = float(os.environ.get("LONGLIVE_SOAK_SECONDS", 600))
ACTIONS = int(500 * SECONDS / 600)
WARM = max(30, ACTIONS // 5)  # actions before the first look: caches and pools fill
VISITORS, SEED = 3, 18
DISK, LIMIT = "12m", "3MB"  # of the disk with films and takes, and for takes
MIB = 2**20
MEMORY_MORE = 40 * MIB  # that the server may hold after ACTIONS beside WARM
HANDLES_MORE, THREADS_MORE = 3, 3
LONG, LONG_SECONDS = "0s A red ball bounces on a meadow.", 90.0  # 121 chunks, some 1500 messages
MOST_WAITING = 1100  # a film is silent from 1000 on; ComfyUI has some words of its own
# What films may end with where others fill the disk, remove takes and cancel. Everything else is a fault.
EXPECTED = re.compile(
    r"done|cancelled|NotEnoughDisk: |.*No space left on device"
    r"|TakeError: (?:cannot write|take ... is being rendered by another)"
)


@pytest.fixture
def own_server(request, tmp_path, monkeypatch):
    """A server of its own, whose films and takes lie on a small disk."""
    if comfyui_path() is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    disk, limit = getattr(request, "param", (DISK, LIMIT))
    folder = tmp_path / "server" / "output"
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk, and Linux's /proc")
    monkeypatch.setenv("LONGLIVE_TAKES_LIMIT", limit)
    server = ComfyServer(tmp_path / "server")
    place_models(server.base / "models")
    place_tiny(server.base / "models")
    place_gate(server.base / "custom_nodes")
    try:
        with server:
            yield server
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def whole(server) -> np.ndarray:
    """Return the frames of a film that no visitor changed."""
    with ComfyClient(server.url) as client:
        return frames(client, client.run(story(99, filename_prefix="whole")))


def held(server, visitors) -> Held:
    """Wait until no client is connected, and no earlier prompt is remembered."""
    visitors[0].connection.post("/history", {"clear": True})
    for _ in range(8):
        look(visitors[0])
    for visitor in visitors:
        visitor.close()
    with ComfyClient(server.url) as client:  # the server has noticed when it answers another
        client.get("/queue")
    return Held.of(server)


def temporary(server) -> list[str]:
    return [path.name for path in (server.base / "temp").rglob("*") if path.is_file()]


def tracebacks(log: Path) -> list[str]:
    """The last lines of those in a server's log, each once."""
    ends = re.findall(r"^Traceback .*?\n(?=\S)(.*)$", log.read_text(errors="replace"), re.MULTILINE | re.DOTALL)
    return sorted({line for end in ends for line in re.findall(r"^[\w.]+(?:Error|Exception)\b.*", end, re.MULTILINE)})


def test_nothing_is_left(own_server):
    """Forbids memory, handles, threads or files that add up, a server that hangs, and a damaged film after it."""
    server, names = own_server, [f"{SEED} {number}" for number in range(VISITORS)]
    disk, before = server.base / "output", whole(server)

    def visit(part: str, actions: int, seconds: float):
        visitors = [Visitor(server, disk, f"{name} {part}") for name in names]
        slowest = act_for(visitors, actions, seconds)
        settle(visitors[0])
        found = endings(visitors[0])
        return visitors, slowest, found, held(server, visitors)

    _, _, _, first = visit("warm", WARM, SECONDS * WARM / ACTIONS / 2)
    visitors, slowest, found, last = visit("soak", ACTIONS, SECONDS)
    store = visitors[0].store()
    leftovers, lost = Leftovers.of(server.base, store), []
    for take in list(store.takes()):
        (lost.append(str(take)) if isinstance(take, ValueError) else store.remove(take.id))
    after = Leftovers.of(server.base, store)
    again = whole(server)
    result = {
        "actions": dict(sorted(sum((visitor.done for visitor in visitors[1:]), visitors[0].done).items())),
        "films": dict(found.most_common()),
        "slowest answer, seconds": round(slowest, 2),
        "messages heard": [visitor.heard for visitor in visitors],
        "held after the warm-up": {**asdict(first), "memory": f"{first.memory / MIB:.0f} MiB"},
        "held at the end": {**asdict(last), "memory": f"{last.memory / MIB:.0f} MiB"},
        "films in ComfyUI's temporary folder (it empties that when it starts)": len(temporary(server)),
        "leftovers": asdict(leftovers),
        "leftovers when all takes are removed": asdict(after),
        "takes that cannot be read": lost,
        "errors in the log": tracebacks(server.log),
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    _write(server, result)
    assert np.array_equal(before, again)
    assert all(re.fullmatch(r"longlive_[0-9a-f]{12}\.mp4", name) for name in temporary(server))
    assert not lost and [*after.unfinished, *after.orphans, *after.removed, *after.damaged] == []
    assert [*leftovers.unfinished, *leftovers.orphans, *leftovers.removed] == []
    assert [ending for ending in found if not EXPECTED.match(ending)] == []
    assert last.memory - first.memory <= MEMORY_MORE
    assert last.handles - first.handles <= HANDLES_MORE and last.threads - first.threads <= THREADS_MORE


def waits_for(condition) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("own_server", [("100m", "0")], indirect=True)
def test_a_client_that_stops_reading(own_server):
    """Forbids a film that hangs, and memory that fills, because one client does not read its messages; those of
    all others wait behind them, in ComfyUI (which sends one message after another)."""
    deaf, other = (Visitor(own_server, own_server.base / "output", name) for name in ("deaf", "other"))
    server, rendered = other.connection, {}
    for seed, part in ((1, "before"), (2, "while one does not read")):
        if seed == 2:
            flood = {"client": deaf.deaf_socket(), "messages": 16, "size": MIB}
            server.post(FLOOD, flood)
        heard, memory = other.heard, Held.of(own_server).memory
        other.queue(story(seed, filename_prefix="read", text=LONG, duration=LONG_SECONDS))
        waits_for(lambda: other.ids[-1] in server.get("/history"))
        (run,) = server.get(f"/history/{other.ids[-1]}").values()
        assert run["status"]["status_str"] == "success", run["status"]
        rendered[part] = {
            "messages heard": other.heard - heard,
            "messages waiting": server.get(WAITING)["waiting"],
            "memory": f"{(Held.of(own_server).memory - memory) / MIB:+.0f} MiB",
        }
    waiting, heard = rendered["while one does not read"]["messages waiting"], other.heard
    deaf.close()
    waits_for(lambda: not server.get(WAITING)["waiting"] and other.heard - heard >= waiting // 2)
    print(rendered)
    _write(own_server, {"a client that stops reading": {"film": f"{LONG_SECONDS:g} s", **rendered}})
    assert 0 < waiting <= MOST_WAITING, "it was not held up, or there is no bound"
    other.close()


def _write(server: ComfyServer, result: dict) -> None:
    if "LONGLIVE_RESULTS" not in os.environ:
        return
    with ComfyClient(server.url) as client:
        version = client.get("/system_stats")["system"]["comfyui_version"]
    import torch

    facts = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "command": "LONGLIVE_SOAK=1 LONGLIVE_RESULTS=docs/results python -m pytest tests/comfy/test_soak_actions.py",
        "film": "tiny random model, 64x48, float32",
        "server": f"ComfyUI {version}; films and takes on a disk of {DISK}, takes limited to {LIMIT}",
        "seconds": SECONDS,
        "clients": VISITORS,
        "seed": SEED,
        "warm-up": f"{WARM} actions",
    }
    path = Path(os.environ["LONGLIVE_RESULTS"]) / "takes_soak.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**before, **facts, **result}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
