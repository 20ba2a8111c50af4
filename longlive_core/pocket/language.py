"""The pocket model's tokenizer and text encoder: words of the toybox, and a UMT5 encoder of two layers.

The encoder is a small version of Wan's UMT5-XXL with the weight names of transformers' `UMT5EncoderModel`. Its output
is zero-padded to `TEXT_LENGTH` tokens and to Wan's text width of 4096, so the transformer keeps Wan's text embedding.

Shapes: N sentences, L tokens, D = 4096.
"""

import json
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import UMT5Config, UMT5EncoderModel

from ..toybox.captions import vocabulary

TEXT_LENGTH = 32
TEXT_WIDTH = 4096
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
EMBEDDINGS = 256  # rows of the embedding table: enough for a larger world


def build_tokenizer() -> Tokenizer:
    """Build the tokenizer: lower-case words and punctuation marks, `</s>` at the end, `<unk>` for unknown words."""
    words = {word: index for index, word in enumerate([PAD, END, UNKNOWN, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, words[END])])
    return tokenizer


def encoder_config() -> UMT5Config:
    """Return the configuration of the encoder: two layers of width 128."""
    return UMT5Config(
        vocab_size=EMBEDDINGS,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=32,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
    )


def config_json() -> str:
    """Return the encoder's configuration as the weights file's metadata holds it."""
    return json.dumps(encoder_config().to_dict(), sort_keys=True)


def tokens_of(
    tokenizer: Tokenizer, texts: Sequence[str], unknown_rate: float = 0.0, rng: np.random.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return ids and mask, int64 [N, TEXT_LENGTH]. With `unknown_rate`, unknown words are inserted at random places."""
    ids = torch.zeros(len(texts), TEXT_LENGTH, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts))):
        words = list(encoding.ids)
        if unknown_rate and rng is not None:
            for place in range(len(words) - 1, -1, -1):
                if rng.random() < unknown_rate:
                    words.insert(place, tokenizer.token_to_id(UNKNOWN))
        words = words[:TEXT_LENGTH]
        ids[row, : len(words)] = torch.tensor(words)
        mask[row, : len(words)] = 1
    return ids, mask


def encode_tokens(encoder: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Encode ids and mask [N, L] to [N, L, 128], with zeros for padding tokens (before padding to Wan's width)."""
    return encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]


class PromptEncoder:
    """Encodes sentences to the text embeddings that the transformer reads."""

    def __init__(self, encoder: UMT5EncoderModel):
        self.encoder, self.tokenizer = encoder, build_tokenizer()

    def __call__(
        self, texts: Sequence[str], unknown_rate: float = 0.0, rng: np.random.Generator | None = None
    ) -> Tensor:
        """Return text embeddings [N, L, D]; see `tokens_of` for `unknown_rate`."""
        states = encode_tokens(self.encoder, *tokens_of(self.tokenizer, texts, unknown_rate, rng))
        return nn.functional.pad(states, (0, TEXT_WIDTH - states.shape[-1]))
