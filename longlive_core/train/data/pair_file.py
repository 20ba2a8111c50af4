"""A file of prompts with their follow-ups that is written incrementally and can be resumed after an interruption."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .prompt_files import PromptPair, decode, parse_line, to_line


class PairFile:
    """A `.jsonl` of pairs that grows line by line and can be resumed. Reads when created, writes inside a `with`.

    Attributes:
        pairs: the pairs in the file.
        torn: an incomplete last line that an interruption left behind, which `__enter__` removes; else None.
    """

    def __init__(self, path: str | os.PathLike, resume: bool = False):
        """Raise ValueError if the file exists and `resume` is off, cannot be read, or is not a file of pairs."""
        self.path, self.pairs, self.torn = Path(path), [], None
        if self.path.suffix.lower() != ".jsonl":
            raise ValueError(f"the pairs are JSON lines, so '{path}' must end in .jsonl")
        if self.path.exists() and not resume:
            raise ValueError(f"'{path}' exists already; add --resume to continue it, or choose another --out")
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read the pairs '{self.path}': {error.strerror}") from error
        lines = data.split(b"\n")
        if lines[-1] and not _is_json(lines[-1]):  # the beginning of an object is not JSON, so only whole lines pass
            self.torn = lines.pop().decode("utf-8", "replace")
        for number, line in enumerate(decode(b"\n".join(lines), self.path).split("\n"), 1):
            if line.strip():
                self.pairs.append(self._pair(line, f"{self.path}, line {number}"))

    @staticmethod
    def _pair(line: str, where: str) -> PromptPair:
        pair = parse_line(line, where)
        if pair.follow_up is None:
            raise ValueError(
                f"{where}: a prompt without a follow-up, which this command never writes; choose another --out"
            )
        return pair

    def add(self, pairs: Sequence[PromptPair]) -> None:
        """Append pairs and flush them at once, so that a killed program loses none."""
        self._file.write("".join(map(to_line, pairs)))
        self._file.flush()
        self.pairs.extend(pairs)

    def __enter__(self) -> PairFile:
        """Open for writing. ValueError if that fails."""
        try:
            if self.torn is not None:
                os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
            if self.pairs and not self.path.read_bytes().endswith(b"\n"):
                self._file.write("\n")
        except OSError as error:
            raise ValueError(f"cannot write the pairs to '{self.path}': {error.strerror}") from error
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        if not self.path.stat().st_size:  # an empty file would only block the next run
            self.path.unlink()


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def missing_prompts(pairs: Sequence[PromptPair], file: PairFile) -> list[int]:
    """Return the places of the pairs that are not yet in the file. ValueError if the file holds other prompts.

    A prompt that occurs twice in the source must occur twice in the file.
    """
    written = Counter(pair.prompt for pair in file.pairs)
    unknown = written - Counter(pair.prompt for pair in pairs)
    if unknown:
        raise ValueError(
            f"'{file.path}' holds {unknown.total()} pairs whose prompts are not among the given ones, such "
            f"as {next(iter(unknown))[:60]!r}; choose another --out"
        )
    missing = []
    for place, pair in enumerate(pairs):
        if written[pair.prompt] > 0:
            written[pair.prompt] -= 1
        else:
            missing.append(place)
    return missing
