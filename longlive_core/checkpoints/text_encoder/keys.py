"""The keys of UMT5 encoder files: the table from Wan's names to Hugging Face's, and how a file is recognised."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import CheckpointError, sample
from ..key_table import strip_wrappers
from ..model_kinds import recognise
from ..wan_keys import QUANTISED
from ..weight_sets import select_weights

# Wan's keys -> Hugging Face's. {} is the layer's number; every layer of UMT5 has its own position bias.
GLOBAL_NAMES = {
    "token_embedding.weight": "shared.weight",
    "norm.weight": "encoder.final_layer_norm.weight",
}

LAYER_NAMES = {
    "blocks.{}.norm1.weight": "encoder.block.{}.layer.0.layer_norm.weight",
    "blocks.{}.attn.q.weight": "encoder.block.{}.layer.0.SelfAttention.q.weight",
    "blocks.{}.attn.k.weight": "encoder.block.{}.layer.0.SelfAttention.k.weight",
    "blocks.{}.attn.v.weight": "encoder.block.{}.layer.0.SelfAttention.v.weight",
    "blocks.{}.attn.o.weight": "encoder.block.{}.layer.0.SelfAttention.o.weight",
    "blocks.{}.pos_embedding.embedding.weight": "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight",
    "blocks.{}.norm2.weight": "encoder.block.{}.layer.1.layer_norm.weight",
    "blocks.{}.ffn.gate.0.weight": "encoder.block.{}.layer.1.DenseReluDense.wi_0.weight",
    "blocks.{}.ffn.fc1.weight": "encoder.block.{}.layer.1.DenseReluDense.wi_1.weight",
    "blocks.{}.ffn.fc2.weight": "encoder.block.{}.layer.1.DenseReluDense.wo.weight",
}
EMBEDDING, EMBEDDING_TWIN = "shared.weight", "encoder.embed_tokens.weight"  # one tensor under two names
TOKENIZER_TENSOR = "spiece_model"  # ComfyUI's files carry the tokenizer among the weights
IGNORED = ("decoder.", "lm_head.", TOKENIZER_TENSOR)  # not part of the encoder


def hugging_face_names(content, path="the text encoder") -> dict[str, Tensor]:
    """Return an encoder's weights under Hugging Face's keys, from Wan's or Hugging Face's; without the tokenizer.

    Raises CheckpointError if the content is not a UMT5 encoder.
    """
    tensors = _unwrapped(select_weights(content, None, path).tensors)
    quantised = [name for name in tensors if name.endswith(QUANTISED)]
    if quantised:
        raise CheckpointError(
            f"{path} is quantised: it holds {sample(quantised)} scales. Load it with ComfyUI's CLIPLoader (type wan), "
            "or give umt5_xxl_fp16.safetensors or Wan's .pth"
        )
    if "token_embedding.weight" in tensors and "blocks.0.attn.q.weight" in tensors:
        return _from_wan(tensors)
    if EMBEDDING in tensors or EMBEDDING_TWIN in tensors:
        renamed = {name: value for name, value in tensors.items() if not name.startswith(IGNORED)}
        twin = renamed.pop(EMBEDDING_TWIN, None)
        return renamed if EMBEDDING in renamed else {EMBEDDING: twin, **renamed}
    kind = recognise(tensors)
    what = kind.what if kind else f"something else; it holds {sample(map(str, content))}"
    raise CheckpointError(
        f"{path} is not a UMT5 text encoder: it is {what}. Use Wan's models_t5_umt5-xxl-enc-bf16.pth or ComfyUI's "
        "umt5_xxl_fp16.safetensors"
    )


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix before the embedding's key, such as `module.`; from a bundle keep only the encoder."""
    tensors = {strip_wrappers(str(name)): value for name, value in tensors.items()}
    found = (
        name.removesuffix(anchor)
        for anchor in ("token_embedding.weight", EMBEDDING, EMBEDDING_TWIN)
        for name in tensors
        if name == anchor or name.endswith(f".{anchor}")
    )
    prefix = next(found, "")
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _from_wan(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in tensors.items():
        layer = re.match(r"blocks\.(\d+)\.", name)
        pattern = name.replace(layer[0], "blocks.{}.", 1) if layer else name
        target = GLOBAL_NAMES.get(pattern) or LAYER_NAMES.get(pattern)
        renamed[target.format(layer[1]) if target and layer else target or name] = value
    return renamed
