"""kill -9 at any moment loses at most the chunk in flight. LONGLIVE_KILLS=20 kills that often (default 5)."""

import os
import random
import subprocess
import sys
from pathlib import Path

import av
import pytest

from longlive_core.takes import TakeStore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CHUNKS = 24
KILLS = int(os.environ.get("LONGLIVE_KILLS", "5"))


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.killed_render", str(folder), str(CHUNKS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(folder):
    """-> path of the film."""
    with start(folder) as process:
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    return lines[-1].removeprefix("film ")


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def test_nothing_is_lost_to_kills(tmp_path):
    """Forbids that an unfinished chunk counts as rendered, and a store that a kill leaves unusable."""
    whole = frames_of(finish(tmp_path / "whole"))
    folder, moments, done = tmp_path / "killed", random.Random(0), 0
    for _ in range(KILLS):
        with start(folder) as process:
            told = process.stdout.readline().split()
            assert told[0] == "reused" and int(told[1]) >= done  # what was whole at a kill is there after it
            for _ in range(moments.randrange(1, max(14, 5 * CHUNKS // KILLS))):  # more than a chunk has passes
                process.stdout.readline()
            process.kill()
        store = TakeStore(folder)
        (take,) = store.takes()
        done = store.done(take)
        films = [path for path in store.take_folder(take.id).glob("*.mp4") if path.stat().st_size > 1000]
        if done > 2:  # the newest unit waits for the next, and the one before may have been in flight
            seen = max(map(frames_of, films), key=len)
            assert seen == whole[: len(seen)] and len(seen) >= 12 * (done - 2) - 3
    assert done
    assert frames_of(finish(folder)) == whole
    assert sorted(path.name for path in store.take_folder(take.id).iterdir()) == [".lock", "film.mp4", "take.json"]
