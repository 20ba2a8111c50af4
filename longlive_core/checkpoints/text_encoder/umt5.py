"""Build transformers' `UMT5EncoderModel` from a file's weights, and run it on ids.

Shapes: N prompts, L tokens (512 for Wan), D width (4096 for Wan).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError, sample
from ..models import check_fit
from ..wan_keys import require_floating_point
from .keys import EMBEDDING, EMBEDDING_TWIN, hugging_face_names

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel


# Fields of a configuration in a file's metadata that do not follow from shapes.
STATED = ("relative_attention_max_distance", "feed_forward_proj", "layer_norm_epsilon")


def encode_ids(model: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return embeddings [N, L, D] of ids and mask [N, L] (mask 1 = token, padding at the end), zero at the padding.

    No token attends to padding, so only as many positions as the longest prompt has tokens are computed.
    """
    device = model.shared.weight.device
    longest = int(mask.sum(dim=1).max())
    short_mask = mask[:, :longest].to(device)
    hidden = model(input_ids=ids[:, :longest].to(device), attention_mask=short_mask).last_hidden_state
    return F.pad(hidden * short_mask.unsqueeze(-1), (0, 0, 0, ids.shape[1] - longest))


def build_encoder(
    weights: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    fields: Mapping | None = None,
    path="the text encoder",
) -> UMT5EncoderModel:
    """Return a UMT5 encoder with these weights (Hugging Face's keys), built on `meta`, loaded strictly.

    Args:
        fields: entries of UMT5Config that do not follow from shapes; by default UMT5's own.

    Raises:
        CheckpointError: missing or unexpected keys, or other shapes.
    """
    UMT5Config, UMT5EncoderModel = _transformers()
    config = UMT5Config(**{**_shapes(weights, path), **(fields or {})})
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    expected = {name: value for name, value in model.state_dict().items() if name != EMBEDDING_TWIN}
    check_fit(expected, weights, path)
    require_floating_point(weights, path)
    if dtype is None and weights[EMBEDDING].dtype == torch.float16:
        dtype = torch.bfloat16
    placed = {name: value.to(device=device, dtype=dtype) for name, value in weights.items()}
    model.load_state_dict({**placed, EMBEDDING_TWIN: placed[EMBEDDING]}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _transformers():
    """Import transformers' two classes; done late, because it takes seconds."""
    try:
        from transformers import UMT5Config, UMT5EncoderModel
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"the text encoder needs the package transformers, which cannot be imported: {error} "
            "Install it; if it is installed, make torchvision match PyTorch (its import is what usually fails)"
        ) from error
    return UMT5Config, UMT5EncoderModel


def _shapes(weights: Mapping[str, Tensor], path) -> dict:
    """Return UMT5Config's fields: those that follow from shapes, and UMT5's constants (equal in all sizes)."""
    layer = "encoder.block.0.layer.{}"
    q = layer.format("0.SelfAttention.q.weight")
    bias = layer.format("0.SelfAttention.relative_attention_bias.weight")
    gate = layer.format("1.DenseReluDense.wi_0.weight")
    missing = [name for name in (EMBEDDING, q, bias, gate) if name not in weights]
    if missing:
        raise CheckpointError(f"{path} is not a complete UMT5 encoder: it lacks {sample(missing)}")
    layers = {int(name.split(".")[2]) for name in weights if name.startswith("encoder.block.")}
    if "encoder.block.1.layer.0.layer_norm.weight" in weights and bias.replace(".0.", ".1.", 1) not in weights:
        raise CheckpointError(
            f"{path} is a T5 encoder, not UMT5 (its layers share one position bias). Wan uses umt5-xxl"
        )
    buckets, heads = weights[bias].shape
    vocabulary, width = weights[EMBEDDING].shape
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": weights[q].shape[0] // heads,
        "d_ff": weights[gate].shape[0],
        "num_layers": max(layers) + 1,
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
        "dropout_rate": 0.0,
        "is_encoder_decoder": False,
        "use_cache": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def config_in_metadata(metadata: Mapping[str, str]) -> dict:
    """Return UMT5Config's fields that do not follow from shapes, from the metadata (the built-in encoder has them)."""
    stated = json.loads(metadata.get("config", "{}"))
    return {name: stated[name] for name in STATED if name in stated}


def replay_umt5(tensors: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Recompute a recorded run of the encoder: `t5.*` weights, `ids` and `mask` [N, L] -> {"context": [N, L, D]}.

    `config` is the recording's (Wan's arguments of the encoder); it must agree with the shapes.
    """
    weights = hugging_face_names({n.removeprefix("t5."): t for n, t in tensors.items() if n.startswith("t5.")})
    model = build_encoder(weights, tensors["ids"].device, torch.float32, path="the recording")
    read = (model.config.num_layers, model.config.num_heads, model.config.relative_attention_num_buckets)
    stated = (config["num_layers"], config["num_heads"], config["num_buckets"])
    if read != stated:
        raise CheckpointError(f"the recording's layers, heads and buckets are {read}, but its config says {stated}")
    with torch.no_grad():
        return {"context": encode_ids(model, tensors["ids"], tensors["mask"])}
