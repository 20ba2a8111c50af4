"""Long films, many jobs, full disks, two writers. LONGLIVE_SOAK=1 runs those that take minutes, too."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from scripts.harness import graphs, mp4
from scripts.harness.client import CHUNK_EVENT, ComfyClient
from scripts.harness.graphs import SAVE
from scripts.harness.models import place_models
from scripts.harness.server import ROOT, ComfyServer

from .gate import at
from .takes import CHUNKS, STORY, frames, frames_in, report, store_of, story, whole_film
from .tiny_models import TINY_DIT, TINY_VAE

pytestmark = pytest.mark.comfy
slow = pytest.mark.skipif(os.environ.get("LONGLIVE_SOAK") != "1", reason="takes minutes: set LONGLIVE_SOAK=1")
MIB = 2**20

LONG_MORE = 50 * MIB  # that a film of 240 s may need beside one of 20 s; 9 MB were measured, its frames are 118 MB
JOBS, SETTLED = 200, 20
JOBS_MORE = 30 * MIB  # that the server may hold after JOBS beside SETTLED; 4 MB were measured


def memory(server, what: str) -> int:
    """Bytes of the server's process: VmRSS, now, or VmHWM, at most so far."""
    try:
        lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    except FileNotFoundError:
        pytest.skip("needs Linux's /proc")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


@pytest.fixture
def new_server(tmp_path):
    """Starts servers of its own, each with its folders."""
    started = []

    def start(name: str):
        base = tmp_path / name
        place_models(base / "models")
        started.append(ComfyServer(base))
        started[-1].start()
        return started[-1]

    yield start
    for running in started:
        running.stop()


@slow
def test_memory_does_not_grow_with_the_film(new_server):
    """Forbids anything that is kept for every chunk: frames, latents, keys, messages."""
    peaks = {}
    for seconds in (20.0, 240.0):
        server = new_server(f"{seconds:g}")
        with ComfyClient(server.url) as client:
            text = "0s A red ball bounces on a meadow.\n10s A blue ball bounces."
            run = client.run(graphs.film(graphs.POCKET, duration=seconds, text=text))
            assert report(run)["seconds"] >= seconds
            assert len(mp4.packets(client.view(run.outputs[SAVE]["images"][0]))) == 64
            peaks[seconds] = memory(server, "VmHWM")
        server.stop()
    print({f"{seconds:g} s": f"{peak / MIB:.0f} MB" for seconds, peak in peaks.items()})
    assert peaks[240.0] - peaks[20.0] <= LONG_MORE


@slow
def test_memory_does_not_grow_with_the_jobs(new_server):
    """Forbids what a queue of a night would add up to: models loaded twice, films remembered, sockets left open."""
    server, held = new_server("jobs"), {}
    with ComfyClient(server.url) as client:
        for job in range(1, JOBS + 1):
            run = client.run(
                graphs.film(graphs.POCKET, duration=1.0, text="0s A red ball bounces.", seed=job, width=64, height=48)
            )
            assert run.status == "execution_success", run.error
            if job % SETTLED == 0:
                held[job] = memory(server, "VmRSS")
    print({job: f"{size / MIB:.0f} MB" for job, size in held.items()})
    assert held[JOBS] - held[SETTLED] <= JOBS_MORE


def test_a_folder_that_takes_no_takes(client, server):
    """Forbids hours of rendering before the first chunk cannot be kept. (Rights do not bind an administrator: a file
    stands where the folder was.)"""
    folder, away = server.base / "output" / "longlive", server.base / "output" / "away"
    folder.mkdir(exist_ok=True)
    folder.rename(away)
    folder.write_bytes(b"")
    try:
        run = client.run(story(51, filename_prefix="elsewhere"))
    finally:
        folder.unlink()
        away.rename(folder)
    assert run.status == "execution_error"
    assert f"takes cannot be kept in '{folder}'" in run.error and "choose a folder you may write to" in run.error
    assert not run.of("longlive.chunk")
    assert report(client.run(story(51, filename_prefix="elsewhere")))["chunks"] == CHUNKS


def command_line(folder: Path, film: Path, seed: int, models: Path) -> subprocess.Popen:
    """The story on the command line, kept in `folder`."""
    script = film.with_suffix(".txt")
    script.write_text(STORY)
    options = {
        "-o": film,
        "--takes": folder,
        "--duration": 8,
        "--seed": seed,
        "--width": 64,
        "--height": 48,
        "--dtype": "fp32",
        "--model": models / "diffusion_models" / TINY_DIT,
        "--vae": models / "vae" / TINY_VAE,
    }
    command = [sys.executable, "-m", "longlive_core", "render", str(script)]
    command += [str(part) for option in options.items() for part in option]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)


def finished(process: subprocess.Popen) -> None:
    output, _ = process.communicate()
    assert process.returncode == 0, output


def test_two_programs_in_one_store(client, server, tmp_path):
    """Forbids that command line and server damage each other's takes: both films are those that each renders alone."""
    alone = tmp_path / "alone.mp4"
    finished(command_line(tmp_path / "alone", alone, 53, server.base / "models"))
    whole = whole_film(client, server, story(52, "discard"))
    together = tmp_path / "together.mp4"
    process = command_line(store_of(server).folder, together, 53, server.base / "models")
    line = process.stdout.readline()
    while line and not list(store_of(server).folder.glob("chunks/*/*.mp4")):
        line = process.stdout.readline()
    run = client.run(story(52))
    finished(process)
    assert report(run)["rendered_chunks"] == CHUNKS
    assert np.array_equal(frames(client, run), whole)
    assert np.array_equal(mp4.read(together.read_bytes()).frames, mp4.read(alone.read_bytes()).frames)
    assert [store_of(server).done(take) for take in store_of(server).takes()].count(CHUNKS) == 1


@pytest.fixture
def small_disk(server):
    """A disk of a few MB where the server keeps its takes."""
    folder = server.base / "output" / "longlive"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (64 * 1024, 4096, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    return path


def played(path: Path) -> np.ndarray:
    """The frames that a player shows of a film whose last piece may not have fitted."""
    seen = []
    with av.open(str(path)) as container, contextlib.suppress(av.error.InvalidDataError):
        seen.extend(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
    return np.stack(seen)


def test_a_disk_that_fills_up_while_a_film_is_rendered(client, server, small_disk):
    """Forbids losing the chunks so far, a message that does not say what to do, and a server that is stuck after it."""
    fillers = []
    graph = story(54, filename_prefix="on_another_disk")
    run = client.run(graph, on_event=at(client, CHUNK_EVENT, lambda run: fillers.append(fill(small_disk)), chunk=2))
    assert run.status == "execution_error"
    assert "No space left on device" in run.error and "free some space" in run.error, run.error
    assert "What was rendered before is kept" in run.error
    (take,) = store_of(server).takes()
    done = store_of(server).done(take)
    assert 2 <= done < CHUNKS
    kept = played(max(store_of(server).take_folder(take.id).glob("*.mp4"), key=lambda path: path.stat().st_size))
    fillers[0].unlink()
    again = client.run(graph)
    assert report(again)["rendered_chunks"] == CHUNKS - done
    made = frames(client, again)
    assert len(kept) >= frames_in(done - 2)  # the newest piece waits for the next, and that did not fit
    assert np.array_equal(kept, made[: len(kept)])
    assert np.array_equal(made, whole_film(client, server, story(54, "discard", filename_prefix="on_another_disk")))


def test_a_disk_that_is_full_is_reported_before(client, small_disk):
    """Forbids rendering what has no place."""
    filler = fill(small_disk)
    run = client.run(story(55, duration=60.0, filename_prefix="on_another_disk"))
    assert run.status == "execution_error"
    assert "No space left on device" in run.error or "free some space" in run.error, run.error
    assert not run.of("longlive.chunk")
    filler.unlink()
