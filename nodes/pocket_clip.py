"""The built-in text encoder as ComfyUI's CLIP, so that CLIP Text Encode and memory management work with it.

ComfyUI's tokens are lists of (id, weight) by encoder name, and its encoders take such lists. Both are adapted here to
`longlive_core.checkpoints.text_encoder`. The encoder is small enough for float32 everywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..longlive_core.checkpoints.text_encoder import CONTEXT_WIDTH, TextEncoder, encode_ids
from . import compat
from .compat.text import cut_row

NAME = "longlive_pocket"


def load_pocket_clip(disable_dynamic: bool = False):
    """Return the pocket model's text encoder as a CLIP. disable_dynamic: see `compat.make_clip`."""
    encoder = TextEncoder.load("pocket", dtype=torch.float32)

    class Model(PocketTextModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(encoder, device)

    class Tokenizer(PocketTokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(encoder)

    return compat.make_clip(Model, Tokenizer, load_pocket_clip, disable_dynamic)


class PocketTokenizer:
    def __init__(self, encoder: TextEncoder):
        self.encoder = encoder

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **options):
        """Return the tokens of a literal prompt: every weight is 1. No padding; a long prompt is cut when it is
        encoded."""
        tokens = [(token, 1.0) for token in self.encoder.all_ids(text)]
        return {NAME: [[(*token, 0) for token in tokens] if return_word_ids else tokens]}

    def untokenize(self, pair):
        return [(pair, str(pair[0]))]

    def state_dict(self):
        return {}


class PocketTextModel(nn.Module):
    longlive_fixed = True  # no layers to skip, no tokenizer options: see compat.patches

    def __init__(self, encoder: TextEncoder, device):
        super().__init__()
        self.transformer = encoder.to(device).model
        self.text_len = encoder.text_len
        self.dtypes = {torch.float32}

    def set_clip_options(self, options):
        """Do nothing: there are no layers to skip and nothing is pooled."""

    def reset_clip_options(self):
        """See set_clip_options."""

    def encode_token_weights(self, tokens):
        """Return (embedding [1, text_len, 4096] with zeros after the prompt's end, None: no pooled output)."""
        row = [token[0] for token in cut_row(tokens[NAME][0], self.text_len)]
        ids = torch.tensor([row + [0] * (self.text_len - len(row))])
        mask = (torch.arange(self.text_len) < len(row)).long()[None]
        context = encode_ids(self.transformer, ids, mask)
        return F.pad(context, (0, CONTEXT_WIDTH - context.shape[-1])), None

    def load_sd(self, sd):
        return self.transformer.load_state_dict(sd, strict=False)
