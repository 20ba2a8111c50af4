"""kill -9 at random moments, and what is in the store afterwards. For test_kills.py, which says how it is run."""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from longlive_core.takes import Manifest, TakeStore

CHANGES = 16  # a chunk writes two or more


class Killed(Exception):
    """The process is dead; what the test was doing with it ends."""


@dataclass
class Kills:
    """What was found after every kill of one program.

    Attributes:
        done: for each kill, the chunks in the store after it. reported: those that were reported done before it.
        leftovers: for each kill, files that no finished film has, such as `.tmp`.
    """

    done: list[int] = field(default_factory=list)
    reported: list[int] = field(default_factory=list)
    leftovers: list[int] = field(default_factory=list)

    def look(self, folder: Path, whole: dict[str, str], reported: int) -> int:
        """Check the store after a kill; return how many chunks are stored. whole: `contents` of the finished one."""
        store = TakeStore(folder)
        takes = list(store.takes())
        assert all(isinstance(take, Manifest) for take in takes), takes
        done = store.rendered(takes[0]) if takes else 0
        assert done == (store.done(takes[0]) if takes else 0)  # no gaps
        assert done >= max([reported, *self.done]), "a chunk that was reported done is gone"
        found = contents(folder)
        differ = [name for name, digest in found.items() if whole.get(name, digest) != digest]
        assert not differ, f"{differ} are not what an uninterrupted render makes"
        self.done.append(done)
        self.reported.append(reported)
        self.leftovers.append(len(set(found) - set(whole)))
        return done

    def as_json(self) -> dict:
        return {
            "kills": len(self.done),
            "chunks there after each kill": self.done,
            "chunks reported done before each kill": self.reported,
            "chunks lost of those reported": max(
                max(0, said - there) for said, there in zip(self.reported, self.done, strict=True)
            ),
            "leftover files after each kill": self.leftovers,
        }


def contents(folder: Path) -> dict[str, str]:
    """Digests of the chunks in a store by their files' names; temporary files too."""
    return {path.name: hashlib.blake2b(path.read_bytes()).hexdigest() for path in (folder / "chunks").glob("*/*")}


def names(folder: Path) -> set[str]:
    """Of all files in a store, unfinished ones too."""
    return {path.name for place in ("chunks/*/*", "takes/*/*") for path in folder.glob(place)}


def kill(process: subprocess.Popen, within: float, moments: random.Random, changing: Path | None = None) -> bool:
    """kill -9 at a random moment of the next seconds; False where the process ended by itself before.

    changing: only after files in this store came or went some times, where a write may be cut short.
    """
    for _ in range(moments.randrange(1, CHANGES) if changing is not None else 0):
        before = names(changing)
        while names(changing) == before and process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.001)
    try:
        process.wait(timeout=moments.uniform(0, within))
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
        return True


@dataclass
class CommandLine:
    """`python -m longlive_core render` into a store, with the tiny model."""

    command: list[str]
    root: Path
    log: Path

    def start(self) -> subprocess.Popen:
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-u", *self.command], cwd=self.root, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def reported(self) -> int:
        """Chunks that the progress bar of the last run had reported."""
        said = self.log.read_text(errors="replace").rsplit("chunk ", 1)
        return int(said[1].split("/")[0]) if len(said) > 1 else 0

    def finish(self, on_line: Callable[[str], None] = lambda line: None) -> None:
        with self.start() as process:
            for line in process.stdout:
                on_line(line)
        assert process.returncode == 0, self.log.read_text(errors="replace")


def reused(line: str) -> int | None:
    """The number in "take ...: 3 of 60 chunks reused"; None for another line."""
    if not line.rstrip().endswith("reused"):
        return None
    return int(line.split(" of ")[-2].split()[-1])
