"""From a prompt to its embedding: the UMT5 encoder that Wan 2.1 was trained with, its files and its tokenizer."""

from .encoder import CONTEXT_WIDTH, TextEncoder, clean, describe_cut
from .keys import EMBEDDING, EMBEDDING_TWIN, hugging_face_names
from .umt5 import build_encoder, encode_ids, replay_umt5

__all__ = [
    "CONTEXT_WIDTH",
    "EMBEDDING",
    "EMBEDDING_TWIN",
    "TextEncoder",
    "build_encoder",
    "clean",
    "describe_cut",
    "encode_ids",
    "hugging_face_names",
    "replay_umt5",
]
