"""20 kills of the command line and 20 of a server at random moments; each is followed by the same render again.

LONGLIVE_SOAK=1 python -m pytest -s tests/comfy/test_kills.py

takes minutes. With LONGLIVE_RESULTS=FOLDER what was found is written there as takes_kills.json (docs/results has it).
"""

import datetime
import json
import os
import platform
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from longlive_core.timeline import parse
from scripts.harness import mp4
from scripts.harness.client import CHUNK_EVENT, ComfyClient
from scripts.harness.models import place_models
from scripts.harness.server import ROOT, ComfyServer, comfyui_path

from ..leftovers import days_later
from .killing import CommandLine, Killed, Kills, contents, kill, reused
from .takes import frames, report, story
from .tiny_models import TINY_DIT, TINY_VAE, place_tiny

pytestmark = [
    pytest.mark.comfy,
    pytest.mark.skipif(os.environ.get("LONGLIVE_SOAK") != "1", reason="takes minutes: set LONGLIVE_SOAK=1"),
]
KILLS = 20
STORY = "0s A red ball bounces on a meadow.\n12s A blue ball bounces.\n30s A star spins. {keep}"
SECONDS = 60.0
CHUNKS = parse(STORY).plan(SECONDS).chunks
A_MOMENT = 0.02  # seconds, about what a file takes to be written


@pytest.fixture(scope="module")
def results():
    """Collects what the tests found; written where LONGLIVE_RESULTS says."""
    found = {}
    yield found
    if "LONGLIVE_RESULTS" in os.environ and found:
        import torch

        facts = {
            "date": datetime.date.today().isoformat(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "system": platform.system(),
            "command": "LONGLIVE_SOAK=1 LONGLIVE_RESULTS=docs/results python -m pytest tests/comfy/test_kills.py",
            "film": f"tiny random model, 64x48, float32, {CHUNKS} chunks, three prompts",
        }
        path = Path(os.environ["LONGLIVE_RESULTS"]) / "takes_kills.json"
        before = json.loads(path.read_text()) if path.is_file() else {}
        text = json.dumps({**before, **facts, **found}, indent=1)
        path.write_text(re.sub(r"\s+(?=\d+,?\s)|(?<=\d)\s+(?=\])", " ", text) + "\n")  # a list in one line


def render_command(base: Path, store: Path, film: Path) -> CommandLine:
    script = film.with_suffix(".txt")
    script.write_text(STORY)
    options = {
        "-o": film,
        "--takes": store,
        "--duration": SECONDS,
        "--seed": 5,
        "--width": 64,
        "--height": 48,
        "--dtype": "fp32",
        "--model": base / "models" / "diffusion_models" / TINY_DIT,
        "--vae": base / "models" / "vae" / TINY_VAE,
    }
    command = ["-m", "longlive_core", "render", str(script)]
    command += [str(part) for option in options.items() for part in option]
    return CommandLine(command, ROOT, film.with_suffix(".log"))


def test_the_command_line_loses_nothing_to_kills(tmp_path, results):
    """Forbids that kill -9 loses a chunk that was reported done, spoils one, changes the film, leaves files behind."""
    place_tiny(tmp_path / "models")
    alone = render_command(tmp_path, tmp_path / "whole", tmp_path / "whole.mp4")
    began, found, moments = time.monotonic(), Kills(), random.Random(1)
    loaded = []
    alone.finish(lambda line: loaded.append(time.monotonic()) if reused(line) is not None else None)
    load, chunk = loaded[0] - began, (time.monotonic() - loaded[0]) / CHUNKS
    whole, store = contents(tmp_path / "whole"), tmp_path / "killed"
    command = render_command(tmp_path, store, tmp_path / "killed.mp4")
    while len(found.done) < KILLS:
        with command.start() as process:
            number = len(found.done)
            if number % 5 == 4:  # in mid-import, while weights are read, before the take is opened
                killed = kill(process, load, moments)
            else:
                there = next(number for number in map(reused, process.stdout) if number is not None)
                assert there >= max(found.done, default=0)
                killed = kill(process, *((A_MOMENT, moments, store) if number % 2 else (8 * chunk, moments)))
        assert killed, "the film was finished before there were enough kills: make it longer"
        found.look(store, whole, command.reported())
    command.finish()
    assert contents(store).items() >= whole.items()
    made, other = mp4.read((tmp_path / "killed.mp4").read_bytes()), mp4.read((tmp_path / "whole.mp4").read_bytes())
    assert np.array_equal(made.frames, other.frames)
    left = days_later(store)
    assert not left
    assert 0 < found.done[-1] < CHUNKS
    results["command line"] = {
        **found.as_json(),
        "finished film": "equal to an uninterrupted one, frame by frame",
        "leftover files two days later": len(left),
    }


class Server:
    """A server of its own that is killed while it renders, and started again."""

    def __init__(self, base: Path):
        place_models(base / "models")
        place_tiny(base / "models")
        self.running = ComfyServer(base)
        self.store = base / "output" / "longlive"
        self.starts = 0

    def start(self) -> ComfyClient:
        self.running.start()
        self.starts += 1
        return ComfyClient(self.running.url)

    def render_until_killed(self, graph: dict, number: int, done: int, chunk: float, moments: random.Random) -> int:
        """Queue it and kill the server; returns the chunks that were reported done.

        Each fifth time before the first chunk, of the others each second while a file is written.
        """
        early, last, reported = number % 5 == 4, done + moments.randrange(3), 0

        def on_event(run, kind: str, data: dict) -> None:
            nonlocal reported
            reported = data["chunk"] + 1 if kind == CHUNK_EVENT else reported
            if early or reported >= last:
                moment = (A_MOMENT, moments, self.store) if number % 2 and not early else (2 * chunk, moments)
                assert kill(self.running.process, *moment)
                raise Killed

        client = self.start()
        try:
            run = client.run(graph, on_event=on_event)
        except Killed:
            client.socket.shutdown()
            return reported
        raise AssertionError(f"the film ended before the kill: {run.status} {run.error}")


def test_a_server_loses_nothing_to_kills(tmp_path, results):
    """As above, for ComfyUI."""
    if comfyui_path() is None:
        pytest.skip("there is no ComfyUI: run scripts/setup, or set COMFYUI_PATH")
    server, found, moments = Server(tmp_path / "base"), Kills(), random.Random(2)
    graph = story(5, text=STORY, duration=SECONDS, filename_prefix="saved")
    try:
        with server.start() as client:
            began = time.monotonic()
            run = client.run(graph)
            assert report(run)["rendered_chunks"] == CHUNKS
            alone, whole, chunk = frames(client, run), contents(server.store), (time.monotonic() - began) / CHUNKS
        server.running.stop()
        server.store.rename(tmp_path / "whole")
        done = 0
        while len(found.done) < KILLS:
            reported = server.render_until_killed(graph, len(found.done), done, chunk, moments)
            done = found.look(server.store, whole, reported)
            assert done < CHUNKS, "the film was finished before there were enough kills: make it longer"
        with server.start() as client:
            run = client.run(graph)
            made, said = frames(client, run), report(run)
    finally:
        server.running.stop()
    assert said["rendered_chunks"] == CHUNKS - found.done[-1] and not said["partial"]
    assert np.array_equal(made, alone)
    assert contents(server.store).items() >= whole.items()
    left = days_later(server.store)
    assert not left
    results["ComfyUI server"] = {
        **found.as_json(),
        "finished film": "equal to an uninterrupted one, frame by frame",
        "leftover files two days later": len(left),
    }
