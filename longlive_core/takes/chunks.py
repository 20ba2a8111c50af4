"""Chunks by key: their latents, and their frames as units of video.

    FOLDER/ab/<key>.safetensors        latents of a chunk
    FOLDER/ab/<key>.<encoding>.mp4     its frames as a unit (`video.py`)

Equal keys mean equal content, so a stored file is never overwritten. Every read compares a file with its checksum
(`checksums.py`); a damaged file is set aside and rendered again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ..files import nofollow
from . import checksums
from .checksums import Damaged, UnitInfo, read_latents, read_unit
from .disk import entries, set_aside, sync, write_whole
from .errors import ChunkDamaged, ChunkMissing, TakeError

Result = TypeVar("Result")

LATENTS = ".safetensors"  # suffix of their files


def latents_name(key: str) -> str:
    """Return the name of the file of a chunk's latents."""
    return f"{key}{LATENTS}"


def unit_name(key: str, unit: str) -> str:
    """Return the name of the file of a chunk's video."""
    return f"{key}.{unit}.mp4"


def keys_of(files: Iterable[str], ending: str, keys: Iterable[str]) -> list[str]:
    """Return the keys for which `files` has a name with this ending."""
    stored = {name.removesuffix(ending) for name in files if name.endswith(ending)}
    return [key for key in keys if key in stored]


class Chunks:
    """The chunks in a folder. repair: whether damaged files are set aside. durable: whether they are synced to disk."""

    def __init__(self, folder: Path, repair: bool = True, durable: bool = True):
        self.folder, self._repair, self._durable = folder, repair, durable

    def latents_path(self, key: str) -> Path:
        return self.folder / key[:2] / latents_name(key)

    def unit_path(self, key: str, unit: str) -> Path:
        return self.folder / key[:2] / unit_name(key, unit)

    @staticmethod
    def has(path: Path) -> bool:
        """Return whether a file exists. Only reading it shows whether it is intact."""
        return path.is_file() or path.is_dir()

    def files(self) -> Iterator[Path]:
        """Yield every file, unfinished ones too."""
        return (path for folder in self._folders() for path in folder.glob("*"))

    def files_of(self, keys: Iterable[str]) -> set[str]:
        """Return the names of all files in these chunks' folders: faster than one check per file."""
        folders = {key[:2] for key in keys}
        return {entry.name for folder in folders for entry in entries(self.folder / folder)}

    def keys(self) -> set[str]:
        """Return the keys of all chunks whose latents are stored, in one scan."""
        return {
            file.name.removesuffix(LATENTS)
            for folder in self._folders()
            for file in entries(folder)
            if file.name.endswith(LATENTS)
        }

    def _folders(self) -> Iterator[Path]:
        """Yield the folders of chunks. Links are not followed: what they lead to is not ours to count or remove."""
        found = (entry for entry in entries(self.folder) if entry.is_dir() and not nofollow.is_link(entry.path))
        return (Path(entry.path) for entry in found)

    def save_latents(self, key: str, latents: Tensor) -> None:
        """Store a chunk, [1, C, T, h, w], in its dtype. It survives a loss of power only after `sync`."""
        self._store(self.latents_path(key), checksums.latents_file(key, latents))

    def load_latents(self, key: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return a chunk, float32 [1, C, T, h, w] on the CPU. A file of an earlier version gets a checksum.

        Args and errors: see `checked_latents`.
        """
        latents, has_checksum = self.checked_latents(key, shape)
        if not has_checksum:
            with contextlib.suppress(TakeError):  # the folder may be read-only; a later read will add the checksum
                self.save_latents(key, latents)
        return latents.to(torch.float32)

    def checked_latents(self, key: str, shape: tuple[int, ...] | None = None) -> tuple[Tensor, bool]:
        """Return latents [1, C, T, h, w] in their dtype, whether the file has a checksum.

        shape: (T, h, w), if known. ChunkDamaged if the file is not what was written; it is set aside.
        """
        return self._read(self.latents_path(key), key, None, lambda data: read_latents(data, key, shape))

    def save_unit(self, facts: UnitInfo, video: bytes) -> bytes:
        """Store a unit; return the content of its file."""
        data = checksums.unit_file(facts, video)
        self._store(self.unit_path(facts.key, facts.unit), data)
        return data

    def load_unit(self, facts: UnitInfo) -> bytes:
        """Return a unit. One of an earlier version gets a checksum. See `checked_unit`."""
        data, has_checksum = self.checked_unit(facts)
        if not has_checksum:
            with contextlib.suppress(TakeError):
                return self.save_unit(facts, data)
        return data

    def sync(self, key: str) -> None:
        """Make a chunk's saved files survive a loss of power."""
        if self._durable:
            sync(self.latents_path(key).parent)

    def checked_unit(self, facts: UnitInfo) -> tuple[bytes, bool]:
        """Return a unit, whether it has a checksum. ChunkDamaged if it is not what was written; it is set aside."""
        path = self.unit_path(facts.key, facts.unit)
        return self._read(path, facts.key, facts.unit, lambda data: (data, read_unit(data, facts)))

    def _store(self, path: Path, data: bytes) -> None:
        """Write a chunk's file. If another process wrote it meanwhile and has it open, its content is the same."""
        try:
            write_whole(path, data, synced=False, durable=self._durable)
        except TakeError as error:
            if not (isinstance(error.__cause__, PermissionError) and path.is_file()):
                raise

    def _read(self, path: Path, key: str, unit: str | None, read: Callable[[bytes], Result]) -> Result:
        try:
            return read(nofollow.read(path))
        except FileNotFoundError as error:
            raise ChunkMissing(path, error, key, unit, aside=True) from error
        except PermissionError as error:  # not damaged: another program has it open, or it is another user's
            raise TakeError(f"'{path}' cannot be read ({error.strerror})") from error
        except (OSError, Damaged) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ChunkDamaged(path, reason, key, unit, self._repair and set_aside(path)) from error


class StoredLatents(Sequence):
    """The first chunks of a shot, each loaded when it is needed. shape: (T, h, w) of each."""

    def __init__(self, chunks: Chunks, keys: Sequence[str], shape: tuple[int, int, int]):
        self._chunks, self._keys, self._shape = chunks, keys, shape

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Tensor:
        return self._chunks.load_latents(self._keys[index], self._shape)
