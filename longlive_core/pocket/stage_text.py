"""The first part of the stage `dit`: the text encoder, trained from scratch to state what a sentence requests.

Every token of the encoder's output learns to predict all attributes of the sentence through linear heads. So
cross-attention finds the colour at any token, and the transformer need not first learn where to look.
"""

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import UMT5EncoderModel

from ..toybox import world
from ..toybox.captions import caption
from ..train.optimiser import cosine_rate
from .language import build_tokenizer, encode_tokens, encoder_config, tokens_of

SENTENCES = 32  # of a step
RATE, WARMUP = 2e-3, 50
UNKNOWN_RATE = 0.03  # unknown words in the sentences
log = logging.getLogger(__name__)


def train(steps: int, rng: np.random.Generator) -> UMT5EncoderModel:
    """Train the text encoder for this many steps; the heads are dropped."""
    encoder = UMT5EncoderModel(encoder_config())
    for table in encoder.modules():
        if isinstance(table, nn.Embedding) and table.embedding_dim == encoder.config.d_model:
            nn.init.normal_(table.weight, 0.0, 1.0)
    heads = nn.ModuleDict({f: nn.Linear(encoder.config.d_model, len(t)) for f, t in world.TABLES.items()})
    tokenizer = build_tokenizer()
    adam = torch.optim.AdamW([*encoder.parameters(), *heads.parameters()], lr=RATE, weight_decay=0.01)
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = cosine_rate(step, steps, RATE, WARMUP)
        requested = [world.random_attributes(rng) for _ in range(SENTENCES)]
        ids, mask = tokens_of(tokenizer, [caption(attributes, rng) for attributes in requested], UNKNOWN_RATE, rng)
        states = encode_tokens(encoder, ids, mask)[mask.bool()]  # [tokens of all sentences, width]
        sentence = torch.arange(SENTENCES).repeat_interleave(mask.sum(dim=1))
        loss = torch.zeros(())
        for field, table in world.TABLES.items():
            label = torch.tensor([list(table).index(getattr(attributes, field)) for attributes in requested])
            loss = loss + F.cross_entropy(heads[field](states), label[sentence])
        adam.zero_grad()
        loss.backward()
        adam.step()
        if step % 100 == 99:
            log.info("text step %d loss %.4f", step + 1, float(loss.detach()))
    return encoder
