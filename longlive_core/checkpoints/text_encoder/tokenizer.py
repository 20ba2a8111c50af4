"""The tokenizer of a text encoder: where it is found, and how it turns a prompt into ids."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError

# Where a tokenizer is, relative to the encoder's folder: next to the file, or as in Wan's own download.
TOKENIZER_FOLDERS = (".", "google/umt5-xxl", "umt5-xxl", "tokenizer")
TOKENIZER_NAMES = ("tokenizer.json", "spiece.model")

Tokenizer = Callable[[str, int], tuple[list[int], bool]]
"""(text, limit) -> (at most `limit` ids including the final </s>, whether the text was cut)."""


def find_tokenizer(path: str | os.PathLike, embedded: Tensor | None, given: str | os.PathLike | None) -> Tokenizer:
    """Return the tokenizer given, else the one inside the encoder's file, else one next to it.

    Raises CheckpointError with the places that were searched if there is none.
    """
    if given is None and embedded is not None:
        return _sentencepiece(embedded.numpy().tobytes())
    folders = [Path(given)] if given is not None else [Path(path).parent / folder for folder in TOKENIZER_FOLDERS]
    candidates = [place for folder in folders for place in (folder, *(folder / name for name in TOKENIZER_NAMES))]
    found = next((place for place in candidates if place.is_file()), None)
    if found is None:
        raise CheckpointError(
            f"no tokenizer for the text encoder {path}: none in it, and neither {' nor '.join(TOKENIZER_NAMES)} in "
            f"{', '.join(str(folder) for folder in folders)}. Put the folder google/umt5-xxl of Wan 2.1's download "
            "next to it, or use ComfyUI's umt5_xxl_fp16.safetensors, which contains its tokenizer"
        )
    return _tokenizers(found) if found.suffix == ".json" else _sentencepiece(found.read_bytes())


def _tokenizers(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Fast

    fast = Fast.from_file(str(path))
    fast.no_padding()

    def tokenize(text: str, limit: int) -> tuple[list[int], bool]:
        fast.enable_truncation(limit)  # counts the final </s>, which the file's own template adds
        encoding = fast.encode(text)
        return encoding.ids, bool(encoding.overflowing)

    return tokenize


def _sentencepiece(model: bytes) -> Tokenizer:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise CheckpointError(
            "this text encoder's tokenizer needs the package sentencepiece: pip install sentencepiece"
        ) from error
    pieces = SentencePieceProcessor(model_proto=model)

    def tokenize(text: str, limit: int) -> tuple[list[int], bool]:
        ids = pieces.encode(text)
        return [*ids[: limit - 1], pieces.eos_id()], len(ids) > limit - 1

    return tokenize
