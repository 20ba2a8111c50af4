"""The take store: chunks of latents and their units of video by key, and the manifests of takes that use them.

    FOLDER/chunks/ab/<key>.safetensors        latents of a chunk
    FOLDER/chunks/ab/<key>.<encoding>.mp4     its frames as a unit (`video.py`)
    FOLDER/takes/<id>/take.json               what the take is: timeline, settings, keys
    FOLDER/takes/<id>/film.mp4, growing.mp4   its film, and the same while it is rendered; film.1.mp4, growing.1.mp4
                                              where a player held those names (`held.py`)
    FOLDER/takes/<id>.*.removed               what is left of a removed take

Chunks with equal keys lie there once, however many takes use them. Files appear whole or not at all, so a process that
is killed leaves at most a `.tmp` file. Several processes may use a store at once: equal keys mean equal content, and
what removes chunks, or counts on chunks that are there, holds the lock.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .. import held
from ..timeline import shot_boundary
from .keys import FORMAT

_ID = re.compile(r"[0-9a-f]{12}\Z")
_ABANDONED = 24 * 3600.0  # seconds after which a .tmp file is nobody's
_REMOVED = ".removed"
FILM, GROWING = "film.mp4", "growing.mp4"
LATENTS = ".safetensors"  # how the names of their files end


class TakeError(ValueError):
    """A take that cannot be used, with the reason. take: its id, in what `TakeStore.takes` lists."""

    take = ""


class TakeMissing(TakeError):
    """There is no such take."""


@contextlib.contextmanager
def writing(path: os.PathLike) -> Iterator[None]:
    """Turn the disk's errors inside the block into a TakeError."""
    try:
        yield
    except OSError as error:
        what = "close what uses it" if isinstance(error, PermissionError) else "free some space"
        raise TakeError(f"cannot write '{path}' ({error.strerror}); {what} or choose another folder. What was rendered "
                        "before is kept") from error  # fmt: skip


@dataclass
class Manifest:
    """What a take is.

    Attributes:
        id: twelve hexadecimal digits.
        timeline: the text as written.
        exact: the same film's timeline with its times in chunks.
        origin: the run's settings, from `Origin.as_json`.
        segments: for each prompt its chunk, transition and text; seed and blend where it has them.
        shots: the chunk keys, shot by shot.
        encoding: width, height, fps, crf of its film.
        unit: name of the encoding in the units' file names.
        vae_width: of the VAE whose latents these are.
        given: how many chunks it begins with that it did not make itself.
        created, used: seconds since 1970.
    """

    id: str
    timeline: str
    exact: str
    origin: dict
    segments: list[dict]
    shots: list[list[str]]
    encoding: dict
    unit: str
    vae_width: int
    given: int = 0
    created: float = field(default_factory=time.time)
    used: float = field(default_factory=time.time)
    format: int = FORMAT

    @property
    def keys(self) -> list[str]:
        return [key for shot in self.shots for key in shot]

    def is_whole(self) -> bool:
        """Whether the fields are of their kinds; in a file that somebody edited they may be anything."""
        try:
            width, height = self.origin["size"]
            numbers = (width, height, self.origin["stream"]["chunk"], self.encoding["fps"], self.created, self.used)
            texts = [segment["text"] for segment in self.segments] + self.keys + [self.exact, self.unit]
            counts = [segment["chunk"] for segment in self.segments]
        except (KeyError, TypeError, ValueError):
            return False
        right = all(isinstance(number, (int, float)) for number in (*numbers, *counts))
        return bool(self.segments and self.keys and right and all(isinstance(text, str) for text in texts))

    def frames(self, chunks: int) -> int:
        """Pixel frames of its first chunks."""
        size, frames = self.origin["stream"]["chunk"], 0
        for shot in self.shots:
            frames += shot_boundary(min(chunks, len(shot)), size)
            chunks -= min(chunks, len(shot))
        return frames

    def seconds(self, chunks: int) -> float:
        """How long its first chunks last."""
        return self.frames(chunks) / self.encoding["fps"]


class TakeStore:
    """A folder of takes.

    limit: bytes it may take; `make_room` removes the takes unused for longest to keep to it (None: no limit).
    create: False makes no folder and writes nothing, to look at a store that may not be there; it then seems empty.
    TakeError where takes cannot be kept in `folder`.
    """

    def __init__(self, folder: str | os.PathLike, limit: int | None = None, create: bool = True):
        self.folder, self.limit = Path(folder), limit
        self._chunks, self._takes = self.folder / "chunks", self.folder / "takes"
        self._lock = FileLock(str(self.folder / ".lock"))
        try:
            self._make() if create else self._look()
        except OSError as error:
            raise TakeError(f"takes cannot be kept in '{self.folder}' ({error.strerror}); choose a folder you may "
                            "write to") from error  # fmt: skip

    def _make(self) -> None:
        for place in (self._chunks, self._takes):
            place.mkdir(parents=True, exist_ok=True)
        probe = self.folder / f"{uuid.uuid4().hex}.tmp"
        probe.write_bytes(b"")
        probe.unlink()

    def _look(self) -> None:
        """OSError where `_make` is bound to fail."""
        folder = self.folder.absolute()
        place = next((place for place in (folder, *folder.parents) if place.exists()), folder)
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def locked(self) -> contextlib.AbstractContextManager:
        """While this is held, no process removes anything."""
        return self._lock

    # --- chunks

    def has_latents(self, key: str) -> bool:
        return self._latents(key).is_file()

    def has_unit(self, key: str, unit: str) -> bool:
        return self.unit_path(key, unit).is_file()

    def save_latents(self, key: str, latents: Tensor) -> None:
        """Keep a chunk, [1, C, T, h, w], in its dtype."""
        self._keep(self._latents(key), save({"latents": latents.contiguous().cpu()}, {"key": key}))

    def load_latents(self, key: str) -> Tensor:
        """A chunk, float32 [1, C, T, h, w] on the CPU. TakeError where its file is damaged."""
        path = self._latents(key)
        try:
            return load(path.read_bytes())["latents"].to(torch.float32)
        except FileNotFoundError as error:
            raise TakeError(f"chunk {key} is not in '{self.folder}'") from error
        except (SafetensorError, KeyError) as error:
            raise TakeError(f"'{path}' is damaged ({error}); remove it, and it will be rendered again") from error

    def save_unit(self, key: str, unit: str, data: bytes) -> None:
        self._keep(self.unit_path(key, unit), data)

    def unit_path(self, key: str, unit: str) -> Path:
        return self._chunks / key[:2] / f"{key}.{unit}.mp4"

    def _latents(self, key: str) -> Path:
        return self._chunks / key[:2] / f"{key}{LATENTS}"

    def _write(self, path: Path, data: bytes) -> None:
        """The file appears whole, or not at all."""
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                held.replace(part, path)
            except OSError:
                held.remove(part)
                raise

    def _keep(self, path: Path, data: bytes) -> None:
        """A chunk's file. One that somebody put there meanwhile, and holds, has the same content."""
        try:
            self._write(path, data)
        except TakeError as error:
            if not (isinstance(error.__cause__, PermissionError) and path.is_file()):
                raise

    # --- takes

    def take_folder(self, take: str) -> Path:
        return self._takes / take

    @contextlib.contextmanager
    def rendering(self, take: str) -> Iterator[None]:
        """Have a take for oneself. TakeError where another process renders it."""
        lock = FileLock(str(self.take_folder(take) / ".lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise TakeError(f"take {take} is being rendered by another process; wait for it") from error
        try:
            yield
        finally:
            lock.release()

    def write_manifest(self, manifest: Manifest) -> None:
        """From here on, the chunks that the take names stay."""
        text = json.dumps(vars(manifest), ensure_ascii=False, indent=1)
        with self._lock:
            self._write(self.take_folder(manifest.id) / "take.json", text.encode())

    def read_manifest(self, take: str) -> Manifest:
        """TakeError with the reason: no such take, damaged, or of a newer version."""
        if not _ID.match(take):
            raise TakeError(f"'{take}' is not the id of a take: those are twelve hexadecimal digits, see `takes list`")
        path = self.take_folder(take) / "take.json"
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise TakeMissing(f"there is no take {take} in '{self.folder}'; see `takes list`") from error
        except OSError as error:
            raise TakeError(f"'{path}' cannot be read ({error.strerror})") from error
        except (ValueError, UnicodeDecodeError) as error:
            raise TakeError(f"'{path}' is damaged ({error}); its chunks are still there: render the timeline again, or "
                            "remove the take") from error  # fmt: skip
        version = data.get("format") if isinstance(data, dict) else None
        if version != FORMAT:
            raise TakeError(f"'{path}' has format {version!r}, this version reads {FORMAT}; "
                            "update the pack, or remove the take")  # fmt: skip
        try:
            manifest = Manifest(**data)
        except TypeError as error:
            raise TakeError(f"'{path}' is damaged ({error}); remove the take") from error
        if not manifest.is_whole():
            raise TakeError(f"'{path}' is damaged (a field is not what it should be); remove the take")
        if manifest.id != take:
            raise TakeError(f"'{path}' says that it is take {manifest.id}; it was moved or edited")
        return manifest

    def takes(self) -> Iterator[Manifest | TakeError]:
        """Every take, the newest first; what cannot be read comes as its error."""
        found = []
        for folder in self._takes.iterdir() if self._takes.is_dir() else ():
            if _ID.match(folder.name):
                try:
                    found.append(self.read_manifest(folder.name))
                except TakeError as error:
                    error.take = folder.name
                    found.append(error)
        yield from sorted(found, key=lambda take: -take.created if isinstance(take, Manifest) else 0.0)

    def state(self) -> tuple:
        """Another value after a take or a chunk came, went, or was written anew; cheap, for those who keep a list."""
        manifests = (self.take_folder(folder.name) / "take.json" for folder in _entries(self._takes))
        return tuple((os.fspath(path), _changed(path)) for path in (*manifests, *_entries(self._chunks)))

    def done(self, manifest: Manifest) -> int:
        """How many of a take's chunks are rendered."""
        return sum(self.has_latents(key) for key in manifest.keys)

    def rendered(self, manifest: Manifest, there: Container[str] | None = None) -> int:
        """How many of a take's chunks are there from its start on, to the first gap. there: `stored_keys`, for many."""
        has = self.has_latents if there is None else there.__contains__
        missing = (number for number, key in enumerate(manifest.keys) if not has(key))
        return next(missing, len(manifest.keys))

    def stored_keys(self) -> set[str]:
        """The keys of all chunks whose latents are there, read at once."""
        return {path.name.removesuffix(LATENTS) for path in self._chunks.glob(f"*/*{LATENTS}")}

    # --- removing

    def remove(self, take: str) -> int:
        """Remove a take and the chunks that no other take uses; returns the bytes freed."""
        if not _ID.match(take) or not self.take_folder(take).is_dir():
            raise TakeError(f"there is no take {take} in '{self.folder}'; see `takes list`")
        with self._lock:
            before = self.size()
            self._drop(take)
            return before - self.size()

    def make_room(self, needed: int, keep: str) -> list[str]:
        """Remove the takes unused for longest until `needed` more bytes fit; never `keep`. Returns what went."""
        gone = []
        if self.limit is None:
            return gone
        with self._lock:
            others = [take for take in self.takes() if isinstance(take, Manifest) and take.id != keep]
            others.sort(key=lambda take: take.used)
            while others and self.size() + needed > self.limit:
                oldest = others.pop(0).id
                with contextlib.suppress(TakeError):  # somebody renders it
                    self._drop(oldest)
                    gone.append(oldest)
        return gone

    def _drop(self, take: str) -> None:
        """Remove a take and what only it used; the store's lock is held. TakeError while it is rendered or played."""
        with self.rendering(take):
            pass  # nobody does; on Windows its folder could not go while the lock is open
        folder = self.take_folder(take)
        gone = folder.with_name(f"{take}.{uuid.uuid4().hex[:8]}{_REMOVED}")
        try:
            os.rename(folder, gone)  # whole or not at all: on Windows not while a file in it is open
        except PermissionError as error:
            raise TakeError(f"take {take} cannot be removed ({error.strerror}): close what shows its film") from error
        shutil.rmtree(gone, ignore_errors=True)
        self._sweep()

    def tidy(self, take: str) -> None:
        """Remove what players held when renders of a take ended. To be called while nobody else renders it."""
        folder = self.take_folder(take)
        film = folder / FILM
        for spare in sorted(held.spares_of(film), key=_age):  # the newest first
            if not film.is_file() or _age(spare) < _age(film):
                with contextlib.suppress(PermissionError):
                    os.replace(spare, film)
            else:
                held.remove(spare)
        for growing in (folder / GROWING, *held.spares_of(folder / GROWING)):
            if growing.is_file() and film.is_file() and _age(film) <= _age(growing):  # else it shows more
                held.remove(growing)

    def _tidy_all(self) -> None:
        for folder in self._takes.iterdir():
            if folder.name.endswith(_REMOVED):
                shutil.rmtree(folder, ignore_errors=True)
            elif _ID.match(folder.name):
                with contextlib.suppress(TakeError), self.rendering(folder.name):
                    self.tidy(folder.name)

    def size(self) -> int:
        """Bytes of everything in the store."""
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):  # another process removed it
                total += path.stat().st_size if path.is_file() else 0
        return total

    def size_of(self, manifest: Manifest) -> int:
        """Bytes of a take: its own files, and its chunks, whoever else uses them."""
        keys, total = set(manifest.keys), 0
        chunks = (path for path in self._chunks.glob("*/*") if path.name.split(".")[0] in keys)
        for path in (*chunks, *self.take_folder(manifest.id).glob("*")):
            with contextlib.suppress(OSError):  # another process removed it
                total += path.stat().st_size
        return total

    def _sweep(self) -> None:
        """Remove chunks that no manifest names. A manifest that cannot be read may name any, so then none goes."""
        self._tidy_all()
        used: set[str] = set()
        for take in self.takes():
            if isinstance(take, TakeError):
                return
            used.update(take.keys)
        for path in self._chunks.glob("*/*"):
            with contextlib.suppress(OSError):
                stale = path.suffix == ".tmp" and time.time() - path.stat().st_mtime > _ABANDONED
                if stale or (path.suffix != ".tmp" and path.name.split(".")[0] not in used):
                    path.unlink()


def _entries(folder: Path) -> list[os.DirEntry]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _changed(path: os.PathLike) -> int:
    """Nanoseconds since 1970; 0 where there is no such file."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _age(path: Path) -> float:
    """Seconds before now in which it was written last, but for a constant."""
    return -path.stat().st_mtime


class StoredLatents(Sequence):
    """The first chunks of a shot, loaded one by one."""

    def __init__(self, store: TakeStore, keys: Sequence[str]):
        self._store, self._keys = store, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Tensor:
        return self._store.load_latents(self._keys[index])
