"""Weights in several files, as Hugging Face saves them: `x-00001-of-00002.safetensors`, and the index that names them.

The number of shards is the only information that is read from a file's name, because nothing inside a shard says that
there are others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import CheckpointError, sample

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{3,5})-of-(?P<count>\d{3,5})(?P<ending>\.[A-Za-z]+)")
_INDEX = ".index.json"


class Shards(NamedTuple):
    """The `files` of one set of weights, and the `names` in their index, if there is one."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    index: Path | None

    def check(self, tensors: Mapping[str, Any]) -> None:
        """Raise CheckpointError if the shards do not hold all tensors in their index."""
        missing = set(self.names) - tensors.keys()
        if missing:
            raise CheckpointError(
                f"the shards of {self.index} do not hold all that it lists: {sample(missing)}; "
                "download all of them again, from one place"
            )


def shards_of(path: Path) -> Shards | None:
    """Return the set of shards to which a file or index belongs; None if the file is not a shard.

    CheckpointError: a shard is missing.
    """
    if path.name.endswith(_INDEX) or (path.suffix == ".json" and b'"weight_map"' in _beginning(path)):
        return _of_index(path)
    found = _SHARD.fullmatch(path.name)
    if found is None or int(found["count"]) < 2:
        return None
    count = int(found["count"])
    names = [
        f"{found['stem']}-{number:0{len(found['number'])}d}-of-{found['count']}{found['ending']}"
        for number in range(1, count + 1)
    ]
    files = _all_there(path, names, f"is number {int(found['number'])} of {count} files that belong together")
    index = path.with_name(f"{found['stem']}{found['ending']}{_INDEX}")
    return Shards(files, _listed(index)[0], index) if index.is_file() else Shards(files, (), None)


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def _of_index(path: Path) -> Shards:
    names, files = _listed(path)
    return Shards(_all_there(path, files, f"is the index of {len(files)} files"), names, path)


def _listed(index: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the tensors in an index, and the files that hold them."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names, files = tuple(places), sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is named as an index of shards and cannot be read as one "
            f"({type(error).__name__}); download it again, or give a shard"
        ) from error
    if not files:
        raise CheckpointError(f"{index} lists no files; download it again, or give a shard")
    outside = [name for name in files if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise CheckpointError(
            f"{index} names files of other folders, which are not opened: {sample(map(str, outside))}"
        )
    return names, files


def _all_there(path: Path, names: list[str], what: str) -> tuple[Path, ...]:
    files = tuple(path.with_name(name) for name in names)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{path} {what}; missing: {sample(missing)}. Put all of them into {path.parent}, then give any one of them"
        )
    return files


def add_shard(tensors: dict[str, Any], content: Any, shard: Path) -> None:
    """Add a shard's tensors to `tensors`. CheckpointError: it holds none, or one that another shard has."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{shard} holds a {type(content).__name__}, not a dictionary of weights")
    twice = tensors.keys() & content.keys()
    if twice:
        raise CheckpointError(
            f"{shard} holds tensors that another shard holds too: {sample(map(str, twice))}; the "
            "files do not belong to one set"
        )
    tensors.update(content)
