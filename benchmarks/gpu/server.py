"""Step: films through a real ComfyUI server, from the shipped API workflows, with random weights as files.

The transformer comes from ComfyUI's own loader, then from Load LongLive, then as INT8; a film is cancelled and resumed.
The frames of each film are counted in its MP4. A part that fails does not prevent the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .notes import Notes, Setting
from .runner import SERVER_LOG
from .server_files import MODEL, VAE, place_pack, write_models

TEXT = "0s A red ball bounces on a meadow.\n{half:g}s A blue ball bounces on a meadow."
SECONDS = {False: {"long": 10.0, "short": 4.0}, True: {"long": 2.0, "short": 1.5}}
FILM_LIMIT = 90.0  # seconds, after which a prompt is given up
CANCEL_AFTER = 1  # the chunk that is cancelled after, counting from 0
NOISE = "Unable to parse pyproject.toml"  # once for every file that a ComfyUI without pydantic reads
LOG_LINES = 150
POLL_SECONDS = 0.5


def run(setting: Setting, notes: Notes) -> None:
    from benchmarks.rollout import MODELS
    from scripts.harness.server import ComfyServer

    os.environ["LONGLIVE_STANDINS"] = "1"
    name = "tiny" if setting.tiny else "longlive-1.3b"
    base, page = setting.work / SERVER_LOG.parent, setting.work / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html><title>no front end</title>", encoding="utf-8")
    notes.update({"files GB": write_models(base / "models", name, setting.device)})
    place_pack(base / "custom_nodes", base / "models")
    on_cpu = ["--cpu"] if setting.device == "cpu" else []
    server = ComfyServer(base, arguments=("--front-end-root", str(page), *on_cpu))
    try:
        began = time.monotonic()
        server.start()
        notes.update({"seconds to start": round(time.monotonic() - began, 1)})
        Parts(server, notes, (MODELS[name].width, MODELS[name].height), setting).run()
    finally:
        server.stop()
        notes.update({"server log": log_of(server.log)})


class Parts:
    """The films, one after the other. size: (width, height) in pixels."""

    def __init__(self, server, notes: Notes, size: tuple[int, int], setting: Setting):
        self.server, self.notes, self.size, self.seconds = server, notes, size, SECONDS[setting.tiny]
        self.limit = FILM_LIMIT * setting.patience
        self.found: dict[str, Any] = {}

    def run(self) -> None:
        """Run all parts; raise RuntimeError at the end if one failed."""
        system = self.stats()
        before: dict[str, float] = {}
        note_memory(system, before)
        self.notes.update({"ComfyUI": system["system"], "devices": system["devices"], "memory before": before})
        files = {"model": MODEL, "vae": VAE}
        loaders = self.graph("comfyui_loaders", self.seconds["long"], unet_name=MODEL, vae_name=VAE)
        load = self.graph("one_prompt", self.seconds["short"], **files)
        int8 = self.graph("int8", self.seconds["short"], **files)
        parts = {
            "UNETLoader and VAELoader": lambda: self.film(loaders, self.seconds["long"]),
            "the same again, from memory": lambda: self.film(with_inputs(loaders, seed=2), self.seconds["long"]),
            "Load LongLive": lambda: self.film(load, self.seconds["short"]),
            "Quantize INT8": lambda: self.film(int8, self.seconds["short"]),
            "cancel and resume": lambda: self.cancel_and_resume(with_inputs(loaders, seed=3), self.seconds["long"]),
        }
        for name, part in parts.items():
            self.found[name] = self.attempt(part)
            self.notes.add(films=self.found, headline=self._headline())
        failed = [name for name, entry in self.found.items() if "error" in entry]
        if failed:
            raise RuntimeError(f"failed: {', '.join(failed)}")

    def _headline(self) -> str:
        words = []
        for name, entry in self.found.items():
            rate = entry.get("report", {}).get("frames_per_second")
            words.append(f"{name}: {'FAILED' if 'error' in entry else f'{rate} frames/s' if rate else 'passed'}")
        return "; ".join(words)

    def attempt(self, part: Callable[[], dict]) -> dict:
        if self.server.process.poll() is not None:  # the part before ended the server
            self.server.start()
        try:
            return part()
        except Exception as error:  # any error: the next part may work
            traceback.print_exc()
            return {"error": f"{type(error).__name__}: {error}", "server log": log_of(self.server.log, 60)}

    def graph(self, workflow: str, seconds: float, **inputs: Any) -> dict:
        """Return a shipped workflow in API format with a film of two prompts, and other inputs by their names."""
        from scripts.templates import api_path

        width, height = self.size
        shipped = json.loads(api_path(workflow).read_text(encoding="utf-8"))
        return with_inputs(
            shipped,
            text=TEXT.format(half=seconds / 2),
            duration=seconds,
            width=width,
            height=height,
            seed=1,
            positions="absolute",
            **inputs,
        )

    def film(self, graph: dict, seconds: float) -> dict:
        from scripts.harness.client import ComfyClient

        with ComfyClient(self.server.url) as client, self.watched() as memory:
            began = time.monotonic()
            done = client.run(graph, timeout=self.limit)
            entry = {"seconds": round(time.monotonic() - began, 1), "memory": memory}
            return entry | self.outcome(client, graph, done, frames_of(seconds))

    def outcome(self, client, graph: dict, done, expected: int | None) -> dict:
        """Return the sampler's report and the frames of the saved film. RuntimeError if they are not as expected."""
        if done.status != "execution_success":
            raise RuntimeError(f"{done.status}: {done.error}")
        report = json.loads(done.outputs[node_of(graph, "LongLiveStreamSampler")]["text"][0])
        (file,) = done.outputs[node_of(graph, "SaveVideo")]["images"]
        path = self.server.base / "film.mp4"
        path.write_bytes(client.view(file))
        frames = count_frames(path)
        wanted = report["frames"] if expected is None else expected
        if frames != wanted:
            raise RuntimeError(f"the film has {frames} frames, there should be {wanted}")
        return {"frames counted in the MP4": frames, "bytes": path.stat().st_size, "report": report}

    def cancel_and_resume(self, graph: dict, seconds: float) -> dict:
        """Cancel after a chunk, then queue the film again: it must resume after the stored chunks."""
        from scripts.harness.client import ComfyClient, after_chunk

        with ComfyClient(self.server.url) as client:
            began = time.monotonic()
            stop = after_chunk(CANCEL_AFTER, client.interrupt)
            part = self.outcome(client, graph, client.run(graph, on_event=stop, timeout=self.limit), None)
            cancelled = time.monotonic() - began
            again = with_inputs(graph, on_cancel="discard")  # ComfyUI remembers the first, which ended
            whole = self.outcome(client, again, client.run(again, timeout=self.limit), frames_of(seconds))
        made, kept, chunks = whole["report"]["rendered_chunks"], part["report"]["chunks"], whole["report"]["chunks"]
        if not part["report"]["partial"] or made != chunks - kept:
            raise RuntimeError(f"cancelled after {kept} of {chunks} chunks, but {made} were rendered afterwards")
        return {
            "cancelled": part,
            "seconds until it was cancelled": round(cancelled, 1),
            "resumed": whole,
            "chunks reused": kept,
            "chunks rendered": made,
        }

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """Collect the device's highest figures while the block runs, as the server reports them."""
        highest: dict[str, float] = {}
        ended = threading.Event()

        def look() -> None:
            with contextlib.suppress(OSError, ValueError, KeyError):  # a busy server answers late
                note_memory(self.stats(), highest)

        def poll() -> None:
            while not ended.wait(POLL_SECONDS):
                look()

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield highest
        finally:
            ended.set()
            thread.join(timeout=10)
            look()

    def stats(self) -> dict:
        import urllib.request

        with urllib.request.urlopen(f"{self.server.url}/system_stats", timeout=10) as answer:
            return json.loads(answer.read())


def note_memory(stats: dict, highest: dict[str, float]) -> None:
    (device, *_), system = stats["devices"], stats["system"]
    figures = {
        "device used GB": device["vram_total"] - device["vram_free"],
        "PyTorch reserved GB": device["torch_vram_total"],
        "PyTorch in use GB": device["torch_vram_total"] - device["torch_vram_free"],
        "main memory used GB": system["ram_total"] - system["ram_free"],
    }
    for name, value in figures.items():
        highest[name] = max(highest.get(name, 0.0), round(value / 1e9, 2))


def with_inputs(graph: dict, **inputs: Any) -> dict:
    """Return a copy with these inputs replaced, on any node. KeyError for an unknown input."""
    copy = json.loads(json.dumps(graph))
    for name, value in inputs.items():
        owners = [
            node["inputs"]
            for node in copy.values()
            if name in node["inputs"] and not isinstance(node["inputs"][name], list)
        ]
        if not owners:
            raise KeyError(f"no node has an input {name}")
        for owner in owners:
            owner[name] = value
    return copy


def node_of(graph: dict, kind: str) -> str:
    return next(node for node, entry in graph.items() if entry["class_type"] == kind)


def frames_of(seconds: float) -> int:
    from longlive_core.timeline import parse

    return parse(TEXT.format(half=seconds / 2)).plan(seconds).frames


def count_frames(path: Path) -> int:
    from benchmarks.rollout import count_frames

    return count_frames(path)


def log_of(log: Path, lines: int = LOG_LINES) -> list[str]:
    """Return the end of the server's log, without repeated lines."""
    if not log.exists():
        return []
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in text if NOISE not in line][-lines:]
