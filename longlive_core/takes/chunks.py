"""Chunks by key: their latents, and their frames as units of video.

    FOLDER/ab/<key>.safetensors        latents of a chunk
    FOLDER/ab/<key>.<encoding>.mp4     its frames as a unit (`video.py`)

Equal keys mean equal content, so a file that is there stays as it is. Each proves what it is whenever it is read
(`checksums.py`); one that does not is set aside, to be made again.
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
from .disk import entries, set_aside, settle, write_whole
from .errors import ChunkDamaged, ChunkMissing, TakeError

Result = TypeVar("Result")

LATENTS = ".safetensors"  # how the names of their files end


def latents_name(key: str) -> str:
    """Of the file of a chunk's latents."""
    return f"{key}{LATENTS}"


def unit_name(key: str, unit: str) -> str:
    """Of the file of a chunk's video."""
    return f"{key}.{unit}.mp4"


def keys_of(files: Iterable[str], ending: str, keys: Iterable[str]) -> list[str]:
    """Those of the keys of which there is a file whose name ends so, of the names `files`."""
    there = {name.removesuffix(ending) for name in files if name.endswith(ending)}
    return [key for key in keys if key in there]


class Chunks:
    """The chunks in a folder. mends: whether damaged files are set aside."""

    def __init__(self, folder: Path, mends: bool = True):
        self.folder, self._mends = folder, mends

    def latents_path(self, key: str) -> Path:
        return self.folder / key[:2] / latents_name(key)

    def unit_path(self, key: str, unit: str) -> Path:
        return self.folder / key[:2] / unit_name(key, unit)

    @staticmethod
    def has(path: Path) -> bool:
        """Whether something is in a file's place; whether it is what was written, reading it shows."""
        return path.is_file() or path.is_dir()

    def files(self) -> Iterator[Path]:
        """Every file that is there, unfinished ones too."""
        return (path for folder in self._folders() for path in folder.glob("*"))

    def files_of(self, keys: Iterable[str]) -> set[str]:
        """The names of all files in the folders where these chunks lie: quicker than a look at each of many."""
        folders = {key[:2] for key in keys}
        return {entry.name for folder in folders for entry in entries(self.folder / folder)}

    def keys(self) -> set[str]:
        """The keys of all chunks whose latents are there, read at once."""
        return {
            file.name.removesuffix(LATENTS)
            for folder in self._folders()
            for file in entries(folder)
            if file.name.endswith(LATENTS)
        }

    def _folders(self) -> Iterator[Path]:
        """Where chunks lie. What a link leads to is not ours: nothing of it is counted, or removed."""
        found = (entry for entry in entries(self.folder) if entry.is_dir() and not nofollow.is_link(entry.path))
        return (Path(entry.path) for entry in found)

    def save_latents(self, key: str, latents: Tensor) -> None:
        """Keep a chunk, [1, C, T, h, w], in its dtype; over a loss of power once it is settled."""
        _keep(self.latents_path(key), checksums.latents_file(key, latents))

    def load_latents(self, key: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """A chunk, float32 [1, C, T, h, w] on the CPU; a file of an earlier version gets its checksum.

        Args and errors: see `checked_latents`.
        """
        latents, proved = self.checked_latents(key, shape)
        if not proved:
            with contextlib.suppress(TakeError):  # the folder may be read-only: it is proved another time
                self.save_latents(key, latents)
        return latents.to(torch.float32)

    def checked_latents(self, key: str, shape: tuple[int, ...] | None = None) -> tuple[Tensor, bool]:
        """-> latents [1, C, T, h, w] in their dtype, whether a checksum proved them.

        shape: (T, h, w), where it is known. ChunkDamaged where the file is not what was written; it is set aside.
        """
        return self._read(self.latents_path(key), key, None, lambda data: read_latents(data, key, shape))

    def save_unit(self, facts: UnitInfo, video: bytes) -> bytes:
        """Keep a unit; returns its file."""
        data = checksums.unit_file(facts, video)
        _keep(self.unit_path(facts.key, facts.unit), data)
        return data

    def load_unit(self, facts: UnitInfo) -> bytes:
        """A unit; one of an earlier version gets its checksum. See `checked_unit`."""
        data, proved = self.checked_unit(facts)
        if not proved:
            with contextlib.suppress(TakeError):
                return self.save_unit(facts, data)
        return data

    def settle(self, key: str) -> None:
        """From here on a loss of power does not take what was saved of a chunk."""
        settle(self.latents_path(key).parent)

    def checked_unit(self, facts: UnitInfo) -> tuple[bytes, bool]:
        """-> a unit, whether a checksum proved it. ChunkDamaged where it is not what was written; it is set aside."""
        path = self.unit_path(facts.key, facts.unit)
        return self._read(path, facts.key, facts.unit, lambda data: (data, read_unit(data, facts)))

    def _read(self, path: Path, key: str, unit: str | None, read: Callable[[bytes], Result]) -> Result:
        try:
            return read(nofollow.read(path))
        except FileNotFoundError as error:
            raise ChunkMissing(path, error, key, unit, aside=True) from error
        except PermissionError as error:  # no damage: another program holds it, or it is another user's
            raise TakeError(f"'{path}' cannot be read ({error.strerror})") from error
        except (OSError, Damaged) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ChunkDamaged(path, reason, key, unit, self._mends and set_aside(path)) from error


def _keep(path: Path, data: bytes) -> None:
    """A chunk's file. One that somebody put there meanwhile, and holds, has the same content."""
    try:
        write_whole(path, data, settled=False)
    except TakeError as error:
        if not (isinstance(error.__cause__, PermissionError) and path.is_file()):
            raise


class StoredLatents(Sequence):
    """The first chunks of a shot, loaded one by one. shape: (T, h, w) of each."""

    def __init__(self, chunks: Chunks, keys: Sequence[str], shape: tuple[int, int, int]):
        self._chunks, self._keys, self._shape = chunks, keys, shape

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Tensor:
        return self._chunks.load_latents(self._keys[index], self._shape)
