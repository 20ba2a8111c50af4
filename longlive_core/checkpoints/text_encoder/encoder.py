"""Encode prompts with the UMT5 encoder that Wan 2.1 was trained with.

A prompt becomes ids (with a final </s>, cut at the encoder's length), the ids become vectors, and the positions after
the end of the prompt are zero, as in the paper's code.

Shapes: N prompts, L tokens (512 for Wan), D width (4096 for Wan).
"""

from __future__ import annotations

import bisect
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ...config import TEXT_LENGTH
from ...words.visible import make_visible
from ..built_in import TEXT_ENCODER_FILE, TOKENIZER_FILE, weights_folder
from ..errors import CheckpointError
from ..tensor_files import read_file
from .keys import TOKENIZER_TENSOR, hugging_face_names
from .tokenizer import Tokenizer, find_tokenizer
from .umt5 import build_encoder, config_in_metadata, encode_ids

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel

logger = logging.getLogger(__name__)
_UNCUT = 2**31 - 1  # tokens
_LONG_WORD = 30  # letters
CONTEXT_WIDTH = 4096  # input width of Wan's text_embedding; narrower encoders are padded with zeros


class TextEncoder:
    """A UMT5 encoder with its tokenizer.

    Attributes:
        model: transformers' UMT5EncoderModel, on the device it was moved to last.
        text_len: tokens of every embedding; longer prompts are cut (and a warning is logged, once).
    """

    def __init__(self, model: UMT5EncoderModel, tokenizer: Tokenizer, text_len: int = TEXT_LENGTH):
        self.model, self.tokenizer, self.text_len = model, tokenizer, text_len
        self._reported_cuts: set[str] = set()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike = "pocket",
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        tokenizer: str | os.PathLike | None = None,
    ) -> TextEncoder:
        """Read an encoder and find its tokenizer.

        Args:
            path: `models_t5_umt5-xxl-enc-bf16.pth` (Wan), `umt5_xxl_fp16.safetensors` (ComfyUI), a file in Hugging
                Face's names, or "pocket" for the built-in one.
            dtype: of the weights; None keeps the file's, but float16 becomes bfloat16 (UMT5's activations exceed
                float16's range).
            tokenizer: a `tokenizer.json` or `spiece.model`, or the folder of one. By default the one inside the file,
                else one next to it.

        Raises:
            CheckpointError: not a UMT5 encoder, incomplete, or no tokenizer was found.
        """
        if path == "pocket":
            path, tokenizer = weights_folder() / TEXT_ENCODER_FILE, weights_folder() / TOKENIZER_FILE
        content, metadata = read_file(path)
        weights = hugging_face_names(content, path)
        model = build_encoder(weights, device, dtype, fields=config_in_metadata(metadata), path=path)
        tokenize = find_tokenizer(path, content.get(TOKENIZER_TENSOR), tokenizer)
        return cls(model, tokenize, int(metadata.get("text_len", TEXT_LENGTH)))

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the encoder; return it."""
        self.model.to(device)
        return self

    def all_ids(self, text: str) -> list[int]:
        """Return the ids of a prompt of any length, with the final </s>."""
        return self.tokenizer(clean(text), _UNCUT)[0]

    def cuts(self, texts: Iterable[str]) -> list[str]:
        """Describe the texts that have too many tokens, see `describe_cut`. They are not logged again."""
        cuts = {text: describe_cut(text, lambda part: len(self.all_ids(part)), self.text_len) for text in texts}
        self._reported_cuts |= set(cuts)
        return [cut for cut in cuts.values() if cut is not None]

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids and mask [N, L], int64 on the CPU, padded with 0."""
        ids = torch.zeros(len(texts), self.text_len, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            tokens, cut = self.tokenizer(clean(text), self.text_len)
            if cut and text not in self._reported_cuts:
                logger.warning(*self.cuts([text]))
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask[row, : len(tokens)] = 1
        vocabulary = self.model.config.vocab_size
        if len(texts) and int(ids.max()) >= vocabulary:
            raise CheckpointError(
                f"the tokenizer does not belong to this text encoder: it returns the id {int(ids.max())}, "
                f"and the encoder has {vocabulary} ids"
            )
        return ids, mask

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return [N, L, 4096], float32 on the CPU; zero after each prompt's end and past the encoder's width.

        Prompts are encoded one at a time, so memory does not grow and embeddings do not depend on each other.
        """
        ids, mask = self.tokenize(texts)
        contexts = [encode_ids(self.model, ids[i : i + 1], mask[i : i + 1]).float().cpu() for i in range(len(texts))]
        if not contexts:
            return torch.zeros(0, self.text_len, CONTEXT_WIDTH)
        context = torch.cat(contexts)
        return F.pad(context, (0, CONTEXT_WIDTH - context.shape[-1]))


def clean(text: str) -> str:
    """Clean white space as Wan's code does: single spaces, none at the ends.

    Wan's code also repairs broken encodings and resolves HTML entities (ftfy), which typed prompts do not need.
    """
    return re.sub(r"\s+", " ", text).strip()


def describe_cut(text: str, count: Callable[[str], int], limit: int) -> str | None:
    """Describe a prompt of more than `limit` tokens: how many it has, and before which word it is cut.

    count: returns the number of tokens of a text, with its final </s>. Returns None for a prompt that fits.
    """
    text = clean(text)
    tokens = count(text)
    if tokens <= limit:
        return None
    fits = bisect.bisect_right(range(len(text)), limit, key=lambda end: count(text[:end])) - 1
    number, word = next(
        (number, match.start()) for number, match in enumerate(re.finditer(r"\S+", text), 1) if match.end() > fits
    )
    start, place = word, f"word {number}"
    if fits - word > _LONG_WORD:  # languages without spaces
        start, place = fits, f"letter {fits + 1}"
    rest = text[start : start + _LONG_WORD]
    dots = "..." if start + len(rest) < len(text) else ""
    return (
        f"the prompt '{make_visible(text[:_LONG_WORD])}...' has {tokens} tokens, of which the text encoder takes "
        f"{limit}: it is cut before {place}, '{make_visible(rest)}{dots}'; make it shorter, or split it"
    )
