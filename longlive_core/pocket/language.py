"""The pocket model's tokenizer and text encoder: words of the toybox, and a UMT5 encoder of two layers.

The encoder has the shape of Wan's UMT5-XXL in small and the names of transformers' `UMT5EncoderModel`. Its output is
zero-padded to `TEXT_LENGTH` tokens and to Wan's text width of 4096, so the diffusion model keeps Wan's text embedding.

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
SPARE_WORDS = 256  # size of the embedding table: room for a larger world


def build_tokenizer() -> Tokenizer:
    """Words and punctuation marks, lower case, `</s>` at the end; what is not in the vocabulary becomes `<unk>`."""
    words = {word: index for index, word in enumerate([PAD, END, UNKNOWN, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, words[END])])
    return tokenizer


def encoder_config() -> UMT5Config:
    """Two layers of width 128."""
    return UMT5Config(
        vocab_size=SPARE_WORDS,
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
    """The encoder's configuration, as it stands in the weights file's metadata."""
    return json.dumps(encoder_config().to_dict(), sort_keys=True)


def tokens_of(
    tokenizer: Tokenizer, texts: Sequence[str], unknown_rate: float = 0.0, rng: np.random.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 [N, TEXT_LENGTH]. With `unknown_rate`, an unknown word is put in at some places."""
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
    """[N, L] ids and mask -> [N, L, 128] with padding zeroed (before padding to Wan's width)."""
    return encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]


def to_wan_width(states: Tensor) -> Tensor:
    """[N, L, 128] -> [N, L, 4096], zeros behind."""
    return nn.functional.pad(states, (0, TEXT_WIDTH - states.shape[-1]))
