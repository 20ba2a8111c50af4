"""Read and write files of tensors.

The format is determined by a file's first bytes, never by its name, because people rename downloads. Pickles are always
read with `weights_only=True`, so a file that contains code is refused and the code does not run.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..files import in_use
from .errors import CheckpointError, sample
from .file_signatures import BEGINNING, describe_not_weights
from .shards import add_shard, shards_of

HEADER_LIMIT = 100_000_000  # bytes; the safetensors format's own limit


def read_file(path: str | os.PathLike) -> tuple[Any, dict[str, str]]:
    """Return the content of a file: (tensors by name, metadata) for safetensors, (the pickled object, {}) for a `.pt`.

    For one of several shards, or their index, all shards are read. Tensors stay on the CPU and are mapped from the
    file, not copied, if the format allows it.
    Raises CheckpointError if the file is missing, truncated, of another format, or contains code.
    """
    path = Path(path)
    if path.is_dir():
        inside = [entry.name for entry in path.iterdir() if entry.suffix in (".safetensors", ".pt", ".pth", ".bin")]
        there = f", one of {sample(inside)}" if inside else "; it has none"
        raise CheckpointError(f"{path} is a folder; give the file of weights in it{there}")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    shards = shards_of(path)
    if shards is None:
        return _read_one(path)
    tensors, metadata = {}, {}
    for shard in shards.files:
        content, shard_metadata = _read_one(shard)
        add_shard(tensors, content, shard)
        metadata |= shard_metadata
    shards.check(tensors)
    return tensors, metadata


def _read_one(path: Path) -> tuple[Any, dict[str, str]]:
    with open(path, "rb") as file:
        start = file.read(BEGINNING)
    # Checked first: a safetensors file begins with a number, whose bytes may equal another format's signature.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= HEADER_LIMIT:
        return _read_safetensors(path)
    if start[:4] == b"PK\x03\x04":
        return _read_zip(path), {}
    if start[:1] == b"\x80":
        return _load_pickle(path, mmap=False), {}
    raise CheckpointError(f"{path} {describe_not_weights(start, path.stat().st_size)}")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        header = file.read(header_size)
    damaged = f"{path} is damaged or cut short: download it again"
    if len(header) < header_size:
        raise CheckpointError(f"{damaged} ({size} bytes; its header alone needs {header_size + 8})")
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(f"{damaged} (its header cannot be read: {error})") from error
    expected = 8 + header_size + max(ends, default=0)
    if size < expected:
        raise CheckpointError(f"{damaged} ({size} of {expected} bytes exist)")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{damaged} ({error})") from error


def _read_zip(path: Path) -> Any:
    if not zipfile.is_zipfile(path):  # the table of contents is at the end
        raise CheckpointError(
            f"{path} is cut short ({path.stat().st_size} bytes, its end is missing): download it again"
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"{path} is an ordinary zip archive; unpack it and give the file of weights in it")
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path} is refused: it contains code (a TorchScript program), not only weights")
    return _load_pickle(path, mmap=True)


# Messages of PyTorch's restricted unpickler about anything other than tensors and plain containers.
_CODE = re.compile(
    r"Unsupported (?:global: GLOBAL|class|operand) (\S+)|GLOBAL (\S+)|reduce for unrecognized function (.+)"
)


def _load_pickle(path: Path, mmap: bool) -> Any:
    # torch.load can map a file only by its name, but newer versions open *.safetensors as such: then read it whole.
    mmap = mmap and path.suffix.lower() != ".safetensors"
    try:
        if mmap:
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
        with open(path, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _CODE.search(str(error))
        if found is None:
            raise CheckpointError(f"{path} is damaged or cut short: download it again") from error
        name = next(group for group in found.groups() if group)
        raise CheckpointError(
            f"{path} is refused: it contains code ({name}), not only weights; nothing in it was run. "
            "Save only its tensors in the program that created it, or get a safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, IndexError, UnicodeDecodeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or cut short: download it again ({type(error).__name__})") from error


def write_safetensors(
    path: str | os.PathLike,
    tensors: dict[str, Tensor],
    metadata: dict[str, str],
    verify: Callable[[Path], None] | None = None,
) -> Path:
    """Write a safetensors file atomically: `path` is either the old file or the complete new one.

    verify: checks the written file before it gets its final name; if it raises, nothing is left behind.
    Raises CheckpointError if the name does not end in `.safetensors` (ComfyUI requires it) or the folder is missing.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(f"the output {path} must end in .safetensors, because ComfyUI reads it by that name")
    if not path.parent.is_dir():
        raise CheckpointError(f"the folder of the output {path} does not exist; create it first")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata)
        if verify is not None:
            verify(part)
        in_use.replace(part, path)
    except PermissionError as error:
        raise CheckpointError(
            f"the output {path} cannot be written ({error.strerror}); close the program that uses it, or choose "
            "another name"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def files_of(path: str | os.PathLike) -> tuple[Path, ...]:
    """Return the files that are read for a path: the file itself, or all shards of its set."""
    shards = shards_of(Path(path))
    return (Path(path),) if shards is None else shards.files


def fingerprint(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file in hexadecimal; for shards, of all of them in order."""
    digest = hashlib.sha256()
    for part in files_of(path):
        with open(part, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
