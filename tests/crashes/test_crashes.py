"""Power fails at every moment of a render, a resume, an eviction and a removal: what may be left is opened and used.

As SQLite and ALICE test it: what is done in a store is recorded operation by operation (`recording.py`), and after each
of them the store is rebuilt as POSIX allows it to be after a loss of power (`power.py`). Every state is opened and
looked at, and used further unless it differs only in unread files. LONGLIVE_CRASHES=all takes every combination of
what is lost, which takes long; the suite takes a sample of them, the same at every run.
"""

import os
import re
import shutil

import pytest

from longlive_core.files import durable
from longlive_core.film import video
from longlive_core.takes import disk, removal

from ..leftovers import days_later
from .films import Found, Memory, Reported, Site, rebuilt
from .power import Crash
from .recording import recording

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="the recording knows POSIX"),
]
SAMPLE = None if os.environ.get("LONGLIVE_CRASHES") == "all" else 10  # combinations of what is lost at one moment
FILM, CHUNKS = "0c a\n2c b", 3
OTHER = "0c a\n2c c"  # shares the first two chunks
ALONE = "0c b"


@pytest.fixture(scope="module")
def memory():
    return Memory()


@pytest.fixture
def site(studio, tmp_path, memory):
    (tmp_path / "disk").mkdir()
    with memory.used():
        yield Site(studio, tmp_path / "disk")


@pytest.fixture
def whole(site, tmp_path):
    """Contents of the files of all chunks that the tests make, by name; and the finished films by timeline."""
    (tmp_path / "whole").mkdir()
    there = Site(site.studio, tmp_path / "whole")
    films = {
        text: there.render(text, chunks).film_path.read_bytes()
        for text, chunks in ((FILM, CHUNKS), (OTHER, CHUNKS), (ALONE, 1))
    }
    return {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("store/chunks/*/*")}, films


@pytest.fixture
def every_crash(site, tmp_path, whole, memory, monkeypatch):
    """Checks a recorded disk after every crash; prints how many there were."""

    def check(log, films):
        crashes = Crashes(site.studio, tmp_path / "states", *whole, log, memory)
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # of what is checked: no power fails in the test
        crashes.run(films)
        faults = [
            f"after operation {after - log.first} of {len(log.ops) - log.first}: {fault}"
            for fault, after in crashes.faults.items()
        ]
        assert not faults, "\n".join(faults[:40])

    return check


class Crashes:
    """Every state that a crash may leave of what was recorded, and what is wrong with them.

    faults: in words, each with the number of operations after which it was first found.
    """

    def __init__(self, studio, folder, chunks, films, log, memory):
        self.studio, self.folder, self.chunks, self.films, self.log = studio, folder, chunks, films, log
        self.memory, self.computed = memory, set()
        self.shown = log.contents_of("film.mp4")
        self.found, self.used, self.faults = {}, set(), {}
        self.folder.mkdir()

    def run(self, films, until: str | None = None) -> None:
        """films: timelines that are rendered in each state, with their chunks; None: it is only looked at.

        until: ends with the first fault in which this is found.
        """
        crashes = sampled = 0
        for after in range(self.log.first, len(self.log.ops) + 1):
            crash = Crash(self.log, after)
            sampled += SAMPLE is not None and crash.count > SAMPLE
            for state in crash.states(SAMPLE, seed=after):
                crashes += 1
                for fault in self._faults(state, Reported.of(crash.said), films):
                    self.faults.setdefault(fault, after)
            if until is not None and any(re.search(until, fault) for fault in self.faults):
                return
        print(
            f"{len(self.log.ops) - self.log.first} operations, {crashes} crashes, {len(self.found)} states, of which "
            f"{len(self.used)} were used; of {sampled} moments a sample"
        )

    def _faults(self, state, said, films) -> set[str]:
        key, faults = frozenset(state.items()), set()
        if key not in self.found:
            site = Site(self.studio, self.folder / str(len(self.found)))
            folder = rebuilt(site.folder, state)
            self.found[key] = Found.of(folder, self.chunks)
            faults |= {
                f"a spoilt film: {path}"
                for path, content in state.items()
                if path.endswith("/film.mp4") and content not in self.shown
            }
            if films is not None and (read := _read(state)) not in self.used:
                self.used.add(read)
                faults |= self._used(site, folder, films)
            shutil.rmtree(site.folder)
        return faults | self.found[key].faults(said)

    def _used(self, site, folder, films) -> set[str]:
        """Continue in a store: every film becomes what it would have been, and nothing of the crash stays."""
        chunks = frozenset(path.name for path in folder.glob("chunks/*/*.*") if path.suffix != ".tmp")
        self.memory.remembers = chunks in self.computed  # each set of chunks once with all its numbers
        self.computed.add(chunks)
        faults = {
            f"another film: {text!r}"
            for text, chunks in films
            if site.render(text, chunks).film_path.read_bytes() != self.films[text]
        }
        self.memory.remembers = True
        now = Found.of(folder, self.chunks)
        faults |= {f"after continuing: {fault}" for fault in now.faults(Reported.of(site.said))}
        return faults | {f"left days later: {_kind(name)}" for name in days_later(folder)}


def _read(state) -> frozenset:
    """Return a state without unread files: locks, empty folders of chunks, and the bytes of unfinished files."""
    return frozenset(
        (path, b"" if path.endswith((".tmp", ".part", "/growing.mp4")) else content)
        for path, content in state.items()
        if not path.endswith(".lock") and not (content is None and "/chunks/" in path)
    )


def _kind(name: str) -> str:
    return re.sub(r"[0-9a-f]{8,}", "*", name)


def test_a_render(site, every_crash):
    """Forbids losing more than the chunk in flight of a new film, in a new store."""
    with recording(site.folder) as log:
        Site(site.studio, site.folder, log).render(FILM, CHUNKS)
    every_crash(log, [(FILM, CHUNKS)])


def test_a_resume(site, every_crash):
    """Forbids losing what was rendered before, the film that was left then too."""
    site.render(FILM, CHUNKS, stop_at=2)
    with recording(site.folder, site.said) as log:
        Site(site.studio, site.folder, log).render(FILM, CHUNKS)
    every_crash(log, [(FILM, CHUNKS)])


def test_a_finished_film_that_is_queued_again(site, every_crash):
    """Forbids that a film that was finished long ago is lost while only its file is written."""
    site.render(FILM, CHUNKS)
    with recording(site.folder, site.said) as log:
        Site(site.studio, site.folder, log).render(FILM, CHUNKS)
    every_crash(log, [(FILM, CHUNKS)])


def test_a_prompt_that_was_typed(site, every_crash):
    """Forbids losing chunks between the take that a film was and the one that it became."""
    with recording(site.folder) as log:
        Site(site.studio, site.folder, log).render(FILM, CHUNKS, live=lambda live: live.prompt("c", at="2c"))
    every_crash(log, [(OTHER, CHUNKS)])


def three_takes(site):
    """FILM, OTHER and ALONE, the first unused for longest; the first two share two chunks."""
    takes = [site.render(text, chunks) for text, chunks in ((FILM, CHUNKS), (OTHER, CHUNKS), (ALONE, 1))]
    for used, take in enumerate(takes):
        take.manifest.used = float(used + 1)
        take.store.write_manifest(take.manifest)
    return takes


def test_a_removal(site, every_crash):
    """Forbids that a removal that is cut short takes what other takes use, or leaves half a take in the list."""
    _, other, _ = three_takes(site)
    with recording(site.folder, site.said) as log:
        log.mark(("leaving", other.id))
        site.store().remove(other.id)
        log.mark(("gone", other.id))
    every_crash(log, [(FILM, CHUNKS), (ALONE, 1)])


def test_an_eviction(site, every_crash):
    """Forbids the same of two takes that are removed for a third."""
    *others, alone = three_takes(site)
    needed = 0
    store = site.store(limit=site.store().size() - site.store().size_of(others[1].manifest))
    with recording(site.folder, site.said) as log:
        for take in others:
            log.mark(("leaving", take.id))
        gone = store.make_room(needed, keep=alone.id)
        for take in gone:
            log.mark(("gone", take))
    assert gone == [take.id for take in others]
    every_crash(log, [(ALONE, 1)])


# --- that it finds what it is for


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [
        (disk, "sync_folder", "was reported done and is lost"),
        (durable, "sync_folder", "was begun and is not listed"),
        (video, "sync_file", "a spoilt film"),
        (video, "sync_folder", "the finished film of take .* is not what it was"),
    ],
)
def test_a_render_that_does_not_sync_is_found_out(where, name, fault, site, tmp_path, whole, memory, monkeypatch):
    """Forbids an enumeration that passes with any code."""
    monkeypatch.setattr(where, name, lambda path: None)
    with recording(site.folder) as log:
        Site(site.studio, site.folder, log).render(ALONE, 1)
    assert _some_fault(Crashes(site.studio, tmp_path / "states", *whole, log, memory), fault)


def test_a_removal_in_the_wrong_order_is_found_out(site, tmp_path, whole, memory, monkeypatch):
    """Forbids the same."""
    _, other, _ = three_takes(site)
    monkeypatch.setattr(removal, "sync", lambda folder: None)
    with recording(site.folder, site.said) as log:
        log.mark(("leaving", other.id))
        site.store().remove(other.id)
        log.mark(("gone", other.id))
    for fault in ("is still listed, and its chunk .* is not there", "was removed and is back"):
        assert _some_fault(Crashes(site.studio, tmp_path / fault[:4], *whole, log, memory), fault)


def _some_fault(crashes, fault: str) -> bool:
    """Looks no further than that, and uses no store."""
    crashes.run(None, until=fault)
    return any(re.search(fault, found) for found in crashes.faults)
