"""Films that are rendered while a disk is recorded, and what is found after a crash."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from longlive_core.takes import Live, Manifest, Take, TakeStore, rendering

from ..studio import Stop, Studio, observing
from .power import Log, State, write


class Memory:
    """Computes each chunk once: a test of what is stored need not compute the same numbers a thousand times.

    remembers: set it to False, and everything is computed again.
    """

    def __init__(self):
        self.latents, self.frames, self.units = {}, {}, {}
        self.remembers = True

    @contextlib.contextmanager
    def used(self):
        """Within this block, a chunk that was computed before is not computed again, but is stored again."""
        make_latents, decode, encode = (
            rendering._Rendering._latents,
            rendering._Rendering._decode,
            rendering.encode_unit,
        )

        def latents(self_, chunk):
            return self._once(self.latents, self_.take.manifest.keys[chunk], lambda: make_latents(self_, chunk))

        def frames(self_, chunk):
            return self._once(self.frames, self_.take.manifest.keys[chunk], lambda: decode(self_, chunk))

        def unit(pictures, encoding):
            name = hashlib.blake2b(pictures.tobytes()).digest(), encoding
            return self._once(self.units, name, lambda: encode(pictures, encoding))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rendering._Rendering, "_latents", latents)
            patch.setattr(rendering._Rendering, "_decode", frames)
            patch.setattr(rendering, "encode_unit", unit)
            yield

    def _once(self, known: dict, name, make):
        if name not in known or not self.remembers:
            known[name] = make()
        return known[name]


class Site:
    """A studio whose store is in `folder`. said: its reports to the user, also written to `log`."""

    def __init__(self, studio: Studio, folder: Path, log: Log | None = None):
        self.studio, self.folder, self.log, self.said = studio, folder, log, []

    def say(self, *said) -> None:
        self.said.append(said)
        if self.log is not None:
            self.log.mark(said)

    def store(self, limit: int | None = None) -> TakeStore:
        return TakeStore(self.folder / "store", limit)

    def open(self, text: str, chunks: int) -> Take:
        studio = Studio(self.studio.model, self.studio.contexts, self.studio.decoder, self.store())
        take = studio.open(text, chunks)
        self.say("begun", take.id, tuple(take.manifest.keys))
        return take

    def render(self, text: str, chunks: int, stop_at: int | None = None, live=None) -> Take:
        """Open and render a film; it stops after the first chunks `stop_at`. live: called with the film's `Live`."""
        takes = [self.open(text, chunks)]
        controls = Live(takes[0].plan)
        if live is not None:
            live(controls)

        def on_chunk(chunk: int, frames) -> None:
            self.say("done", takes[-1].manifest.keys[chunk])
            if chunk + 1 == stop_at:
                raise Stop

        def on_take(changed: Take) -> None:
            self.say("leaving", takes[-1].id)
            self.say("begun", changed.id, tuple(changed.manifest.keys))
            takes.append(changed)

        with contextlib.suppress(Stop):
            rendering.render_take(
                takes[0],
                self.studio.model,
                self.studio.decoder,
                self.studio.contexts.__getitem__,
                lambda take: {},
                observing(chunk=on_chunk, changed=on_take),
                live=controls,
            )
            for former in takes[:-1]:
                self.say("gone", former.id)
            self.say("finished", takes[-1].id, takes[-1].film_path.read_bytes())
        return takes[-1]


@dataclass
class Reported:
    """What has been reported to the user by the time of a crash.

    Attributes:
        begun: keys by take, of takes whose manifest was written. leaving: takes that may be removed, as they are being
            removed. gone: takes reported as removed.
        done: keys of chunks that were reported done. films: finished films by take.
    """

    begun: dict[str, tuple[str, ...]] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    films: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, said: list[tuple]) -> Reported:
        now = cls()
        for kind, *facts in said:
            if kind == "begun":
                now.begun[facts[0]] = facts[1]
            elif kind == "finished":
                now.films[facts[0]] = facts[1]
            else:
                getattr(now, kind).add(facts[0])
        return now


@dataclass
class Found:
    """What is in a store that was opened after a crash.

    Attributes:
        takes: keys by take. errors: of takes that cannot be read.
        chunks: names of files that are as they should be. spoilt: those that are not.
        films: by take.
    """

    takes: dict[str, tuple[str, ...]]
    errors: list[str]
    chunks: set[str]
    spoilt: set[str]
    films: dict[str, bytes]

    @classmethod
    def of(cls, folder: Path, whole: dict[str, bytes]) -> Found:
        store = TakeStore(folder)
        listed = list(store.takes())
        takes = {take.id: tuple(take.keys) for take in listed if isinstance(take, Manifest)}
        names = {path.name: path.read_bytes() for path in folder.glob("chunks/*/*") if path.suffix != ".tmp"}
        films = {take: store.take_folder(take) / "film.mp4" for take in takes}
        return cls(
            takes,
            [str(take) for take in listed if not isinstance(take, Manifest)],
            {name for name, content in names.items() if whole.get(name) == content},
            {name for name, content in names.items() if whole.get(name) != content},
            {take: path.read_bytes() for take, path in films.items() if path.is_file()},
        )

    def has(self, key: str) -> bool:
        """Return whether latents and unit of a chunk are stored and intact."""
        return sum(name.split(".")[0] == key for name in self.chunks) >= 2

    def faults(self, said: Reported) -> set[str]:
        """What must not be, in words."""
        staying = {take: keys for take, keys in said.begun.items() if take not in said.leaving}
        kept = {key for keys in staying.values() for key in keys} & said.done
        faults = {f"a take cannot be read: {error}" for error in self.errors}
        faults |= {f"a spoilt chunk under its final name: {name}" for name in self.spoilt}
        faults |= {f"take {take} was begun and is not listed" for take in set(staying) - set(self.takes)}
        faults |= {f"take {take} was removed and is back" for take in said.gone & set(self.takes)}
        faults |= {f"chunk {key} was reported done and is lost" for key in kept if not self.has(key)}
        for take in said.leaving & set(self.takes):
            lost = [key for key in said.begun[take] if key in said.done and not self.has(key)]
            faults |= {f"take {take} is still listed, and its chunk {key} is not there" for key in lost}
        for take, film in said.films.items():
            if take in staying and self.films.get(take) != film:
                faults.add(f"the finished film of take {take} is not what it was")
        return faults


def rebuilt(folder: Path, state: State) -> Path:
    """A new folder with that in it; returns the store in it. Files are as old as if they were written just now."""
    write(folder, state)
    return folder / "store"
