"""Chunks by key: their latents, and their frames as units of video.

    FOLDER/ab/<key>.safetensors        latents of a chunk
    FOLDER/ab/<key>.<encoding>.mp4     its frames as a unit (`video.py`)

Equal keys mean equal content, so a file that is there stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .disk import write_whole
from .errors import TakeError

LATENTS = ".safetensors"  # how the names of their files end


class Chunks:
    """The chunks in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def latents_path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{LATENTS}"

    def unit_path(self, key: str, unit: str) -> Path:
        return self.folder / key[:2] / f"{key}.{unit}.mp4"

    def files(self) -> Iterator[Path]:
        """Every file that is there, unfinished ones too."""
        return self.folder.glob("*/*")

    def keys(self) -> set[str]:
        """The keys of all chunks whose latents are there, read at once."""
        return {path.name.removesuffix(LATENTS) for path in self.folder.glob(f"*/*{LATENTS}")}

    def save_latents(self, key: str, latents: Tensor) -> None:
        """Keep a chunk, [1, C, T, h, w], in its dtype."""
        _keep(self.latents_path(key), save({"latents": latents.contiguous().cpu()}, {"key": key}))

    def load_latents(self, key: str) -> Tensor:
        """A chunk, float32 [1, C, T, h, w] on the CPU. TakeError where its file is damaged."""
        path = self.latents_path(key)
        try:
            return load(path.read_bytes())["latents"].to(torch.float32)
        except FileNotFoundError as error:
            raise TakeError(f"chunk {key} is not in '{self.folder.parent}'") from error
        except (SafetensorError, KeyError) as error:
            raise TakeError(f"'{path}' is damaged ({error}); remove it, and it will be rendered again") from error

    def save_unit(self, key: str, unit: str, data: bytes) -> None:
        _keep(self.unit_path(key, unit), data)


def _keep(path: Path, data: bytes) -> None:
    """A chunk's file. One that somebody put there meanwhile, and holds, has the same content."""
    try:
        write_whole(path, data)
    except TakeError as error:
        if not (isinstance(error.__cause__, PermissionError) and path.is_file()):
            raise


class StoredLatents(Sequence):
    """The first chunks of a shot, loaded one by one."""

    def __init__(self, chunks: Chunks, keys: Sequence[str]):
        self._chunks, self._keys = chunks, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Tensor:
        return self._chunks.load_latents(self._keys[index])
