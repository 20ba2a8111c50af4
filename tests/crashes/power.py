"""A disk that loses power: what was done to a folder, operation by operation, and what may be left of it.

What POSIX promises, and no more:

- `fsync` of a file keeps its content, not its name; `fsync` of a folder keeps the names in it, not their content.
- What was not synced may be lost, each operation by itself and in any order: a rename may be kept while the bytes of
  the file that was renamed are not, and while an operation before it in the same folder is not.
- A rename is one operation, whatever else is lost: the name has its old file or its new one.
- Bytes that were not synced may be there, be missing, be there up to some length, or be zeros of the right length.

A later operation that is synced does not keep an earlier one that is not. Real file systems promise more (ext4 keeps
the order of names, and a new file's name with its content), none of them all of that.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = 0  # the number of the folder that is recorded
State = Mapping[str, bytes | None]  # path -> content; None: a folder


@dataclass(frozen=True)
class Names:
    """Names that change at once. changes: ((folder, name, file or None if the name is removed), ...)."""

    changes: tuple[tuple[int, str, int | None], ...]


@dataclass(frozen=True)
class Write:
    file: int
    at: int
    data: bytes


@dataclass(frozen=True)
class Size:
    file: int
    size: int


@dataclass(frozen=True)
class Sync:
    """Of a file or a folder."""

    node: int


@dataclass(frozen=True)
class Mark:
    """What the program has reported by now, such as a chunk that is done."""

    said: object


class Log:
    """Operations in a folder in their order, and what the folder holds after them if nothing is lost.

    Paths are relative to the folder, with '/'. Files and folders are numbers, so that a file keeps its identity when
    it is renamed.
    """

    def __init__(self):
        self.ops: list[Names | Write | Size | Sync | Mark] = []
        self.first = 0  # how many of them created the state before the program ran
        self.before: dict[str, bytes | None] = {}
        self._folders: dict[int, dict[str, int]] = {ROOT: {}}
        self._files: dict[int, bytearray] = {}

    # --- recording

    def begin(self, state: State) -> None:
        """Files that exist, and are durable, before the first operation."""
        self.before = dict(state)
        for path, content in sorted(state.items()):
            self.make_folder(path) if content is None else self.write(self.create(path), 0, content)
        self.ops += [Sync(node) for node in (*self._folders, *self._files)]
        self.first = len(self.ops)

    def find(self, path: str) -> int | None:
        node = ROOT
        for part in PurePosixPath(path).parts:
            node = self._folders.get(node, {}).get(part)
            if node is None:
                return None
        return node

    def create(self, path: str) -> int:
        node = self._new()
        self._files[node] = bytearray()
        self._rename((*self._place(path), node))
        return node

    def make_folder(self, path: str) -> None:
        node = self._new()
        self._folders[node] = {}
        self._rename((*self._place(path), node))

    def remove(self, path: str) -> None:
        """Of a file or an empty folder."""
        self._rename((*self._place(path), None))

    def rename(self, source: str, target: str) -> None:
        self._rename((*self._place(source), None), (*self._place(target), self.find(source)))

    def link(self, source: str, target: str) -> None:
        self._rename((*self._place(target), self.find(source)))

    def write(self, file: int, at: int, data: bytes) -> None:
        self.ops.append(Write(file, at, bytes(data)))
        _apply(self._files[file], self.ops[-1])

    def resize(self, file: int, size: int) -> None:
        self.ops.append(Size(file, size))
        _apply(self._files[file], self.ops[-1])

    def sync(self, node: int) -> None:
        self.ops.append(Sync(node))

    def mark(self, said: object) -> None:
        self.ops.append(Mark(said))

    def content(self, file: int) -> bytes:
        return bytes(self._files[file])

    def contents_of(self, name: str) -> set[bytes]:
        """What files had in them when they got this name, and when they were there at the beginning."""
        found = {content for path, content in self.before.items() if path.rpartition("/")[2] == name}
        for number, op in enumerate(self.ops):
            for _, given, file in op.changes if isinstance(op, Names) else ():
                if given == name and file is not None:
                    found.add(_versions(self.ops[:number], file, number)[0])
        return found

    def state(self) -> dict[str, bytes | None]:
        """If nothing is lost."""
        return _walk(self._folders, self.content)

    def _new(self) -> int:
        return len(self._folders) + len(self._files)

    def _place(self, path: str) -> tuple[int, str]:
        parts = PurePosixPath(path)
        folder = self.find(str(parts.parent)) if str(parts.parent) != "." else ROOT
        assert folder is not None, f"{path}: its folder was never seen"
        return folder, parts.name

    def _rename(self, *changes: tuple[int, str, int | None]) -> None:
        self.ops.append(Names(changes))
        _name(self._folders, self.ops[-1])


class Crash:
    """What may be left when power fails after the first operations of a log."""

    def __init__(self, log: Log, after: int):
        ops = log.ops[:after]
        synced = {op.node: number for number, op in enumerate(ops) if isinstance(op, Sync)}
        self.said = [op.said for op in ops if isinstance(op, Mark)]
        names = [(number, op) for number, op in enumerate(ops) if isinstance(op, Names)]
        self._names = [op for _, op in names]
        self._lossy = [
            place
            for place, (number, op) in enumerate(names)
            if not any(synced.get(folder, -1) > number for folder, _, _ in op.changes)
        ]
        self._versions = {file: _versions(ops, file, synced.get(file, -1)) for file in log._files}
        named = self._may_be_named()
        self._torn = [file for file, versions in self._versions.items() if len(versions) > 1 and file in named]

    def _may_be_named(self) -> set[int]:
        """Files that have a name in some state."""
        folders: dict[int, dict[str, int]] = {ROOT: {}}
        found = {node for place in self._lossy for _, _, node in self._names[place].changes if node is not None}
        for place, op in enumerate(self._names):
            if place not in self._lossy:
                _name(folders, op)
        return found.union(*(names.values() for names in folders.values()))

    @property
    def count(self) -> int:
        """Of combinations; many of them are the same state."""
        total = 2 ** len(self._lossy)
        for file in self._torn:
            total *= len(self._versions[file])
        return total

    def states(self, limit: int | None, seed: int = 0) -> Iterator[State]:
        """All of them, or where there are more than `limit` combinations a sample.

        A sample has everything kept and everything lost, and of the rest some by chance: half of them are a kind of
        loss of bytes for all files at once or a name that is kept or lost alone, the others any.
        """
        chosen = self._all() if limit is None or self.count <= limit else self._sample(limit, random.Random(seed))
        seen = set()
        for kept, versions in chosen:
            state = self._state(kept, versions)
            if (key := frozenset(state.items())) not in seen:
                seen.add(key)
                yield state

    def _all(self) -> Iterator[tuple]:
        yield from itertools.product(
            itertools.product((True, False), repeat=len(self._lossy)),
            itertools.product(*(range(len(self._versions[file])) for file in self._torn)),
        )

    def _sample(self, limit: int, chance: random.Random) -> Iterator[tuple]:
        names, most = len(self._lossy), max((len(self._versions[file]) for file in self._torn), default=1)
        alike = [tuple(min(version, len(self._versions[file]) - 1) for file in self._torn) for version in range(most)]
        plain = [((kept,) * names, versions) for kept in (True, False) for versions in alike]
        yield plain.pop(0)
        yield plain.pop(most) if most > 1 else plain.pop()
        plain += [
            (tuple(kept == (name == alone) for name in range(names)), chance.choice(alike))
            for alone in range(names)
            for kept in (True, False)
        ]
        plain = chance.sample(plain, min(len(plain), (limit - 2) // 2))
        yield from plain
        for _ in range(limit - 2 - len(plain)):
            yield (
                tuple(chance.random() < 0.5 for _ in range(names)),
                tuple(chance.randrange(len(self._versions[file])) for file in self._torn),
            )

    def _state(self, kept: tuple[bool, ...], versions: tuple[int, ...]) -> State:
        lost = {name for name, there in zip(self._lossy, kept, strict=True) if not there}
        folders: dict[int, dict[str, int]] = {ROOT: {}}
        for number, op in enumerate(self._names):
            if number not in lost:
                _name(folders, op)
        which = dict(zip(self._torn, versions, strict=True))
        return _walk(folders, lambda file: self._versions[file][which.get(file, 0)], self._versions.__contains__)


def _versions(ops: list, file: int, synced: int) -> list[bytes]:
    """What may be in a file: all that was written (first), what was synced, and mixtures."""
    kept, whole, late = bytearray(), bytearray(), []
    for number, op in enumerate(ops):
        if isinstance(op, (Write, Size)) and op.file == file:
            _apply(whole, op)
            if number < synced:
                _apply(kept, op)
            else:
                late.append(op)
    if not late:
        return [bytes(whole)]
    same = len(os.path.commonprefix([bytes(kept), bytes(whole)]))
    middle, rest = (same + len(whole)) // 2, len(whole) - same
    found = [whole, kept, whole[:middle], whole[:same] + bytes(rest), whole[:middle] + bytes(len(whole) - middle)]
    for missing in range(len(late) if len(late) > 1 else 0):  # a later write is kept, one before it is not
        mixed = bytearray(kept)
        for number, op in enumerate(late):
            if number != missing:
                _apply(mixed, op)
        found.append(mixed)
    return list(dict.fromkeys(map(bytes, found)))


def _apply(content: bytearray, op: Write | Size) -> None:
    if isinstance(op, Size):
        content[:] = content[: op.size].ljust(op.size, b"\0")
        return
    content.extend(bytes(max(0, op.at - len(content))))
    content[op.at : op.at + len(op.data)] = op.data


def _name(folders: dict[int, dict[str, int]], op: Names) -> None:
    for folder, name, node in op.changes:
        names = folders.setdefault(folder, {})
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _walk(folders, content_of, is_file=None) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}

    def walk(folder: int, path: str) -> None:
        for name, node in sorted(folders.get(folder, {}).items()):
            below = f"{path}{name}"
            if is_file(node) if is_file is not None else node not in folders:
                found[below] = content_of(node)
            else:
                found[below] = None
                walk(node, f"{below}/")

    walk(ROOT, "")
    return found


def read(folder: Path) -> dict[str, bytes | None]:
    """What a folder holds."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def write(folder: Path, state: State) -> None:
    """Make a new folder hold that."""
    folder.mkdir()
    for path, content in sorted(state.items()):
        (folder / path).mkdir() if content is None else (folder / path).write_bytes(content)
