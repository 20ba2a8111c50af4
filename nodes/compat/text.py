"""Encode prompts with ComfyUI's CLIP in the same way as the command line's text encoder."""

from __future__ import annotations

from torch import Tensor

from ...longlive_core.checkpoints.text_encoder import clean, describe_cut
from ...longlive_core.config import TEXT_LENGTH

UMT5_TOKENS = "umt5xxl"  # ComfyUI's name for the tokens of Wan's text encoder


def encode_text(clip, text: str) -> Tensor:
    """Return a prompt's embedding [1, L, width], float32 on the CPU. The text is literal: no (word:1.3) weights.

    As on the command line, it is cut at the length of the model's training; ComfyUI does not do that. See `text_cut`.
    """
    tokens, limit = _tokens(clip, text), _text_limit(clip)
    cut = {name: [cut_row(row, limit) for row in rows] for name, rows in tokens.items()}
    return clip.encode_from_tokens_scheduled(cut)[0][0].float().cpu()


def text_cut(clip, text: str) -> str | None:
    """Return the hint for a prompt that is too long for the text encoder, see `describe_cut`; None if it fits."""

    def count(part: str) -> int:
        return max(len(_filled(row)) for rows in _tokens(clip, part).values() for row in rows)

    return describe_cut(text, count, _text_limit(clip))


def cut_row(row: list, limit: int) -> list:
    """Cut a prompt's tokens, (id, weight, ...), to `limit`; the last one, which ends the prompt, stays."""
    filled = _filled(row)
    return row if len(filled) <= limit else [*filled[: limit - 1], filled[-1]]


def _filled(row: list) -> list:
    """Return the tokens without the padding at the end (ids of 0; an embedding is a tensor instead of an id)."""
    end = len(row)
    while end and not isinstance(row[end - 1][0], Tensor) and row[end - 1][0] == 0:
        end -= 1
    return row[:end]


def _tokens(clip, text: str) -> dict[str, list]:
    tokens = clip.tokenize(clean(text), disable_weights=True)
    if not any(name == UMT5_TOKENS or name.startswith("longlive_") for name in tokens):
        raise ValueError(
            f"the CLIP is the text encoder of another model (its tokens are for {', '.join(tokens)}, not "
            f"{UMT5_TOKENS}): connect the CLIP of Load LongLive, or CLIPLoader of type wan"
        )
    return tokens


def _text_limit(clip) -> int:
    """Return the maximum number of tokens, Wan's or the pocket encoder's."""
    return getattr(clip.cond_stage_model, "text_len", TEXT_LENGTH)
