"""Prompts to embeddings: the UMT5 encoder Wan 2.1 was trained with, and its tokenizer.

The encoder is transformers' `UMT5EncoderModel`; files in Wan's, Hugging Face's and ComfyUI's naming load into it
through one table. A prompt becomes ids (ended by </s>, cut at the encoder's length), the ids become vectors, and the
places after the prompt's end are zero, as in the paper's code.

Shapes: N prompts, L tokens (512 for Wan), D width (4096 for Wan).
"""

from __future__ import annotations

import bisect
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import TEXT_LENGTH
from ..words.visible import make_visible
from . import CheckpointError, check_fit, read_file
from .built_in import TEXT_ENCODER_FILE, TOKENIZER_FILE, weights_folder
from .containers import choose
from .errors import sample
from .modules import unwrap
from .names import QUANTISED, recognise, require_fractions

if TYPE_CHECKING:
    from transformers import UMT5EncoderModel

logger = logging.getLogger(__name__)

_UNCUT = 2**31 - 1  # tokens
_LONG_WORD = 30  # letters
CONTEXT_WIDTH = 4096  # what Wan's text_embedding takes; narrower encoders are padded with zeros

# Wan's names -> Hugging Face's. {} is the layer's number; every layer of UMT5 has its own position bias.
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
ASIDE = ("decoder.", "lm_head.", TOKENIZER_TENSOR)  # not the encoder's

# Of a configuration in a file's metadata, what its tensors' shapes do not tell.
STATED = ("relative_attention_max_distance", "feed_forward_proj", "layer_norm_epsilon")

# Where a tokenizer lies, seen from the encoder's file: beside it, or as Wan's own download has it.
TOKENIZER_FOLDERS = (".", "google/umt5-xxl", "umt5-xxl", "tokenizer")
TOKENIZER_NAMES = ("tokenizer.json", "spiece.model")

Tokenizer = Callable[[str, int], tuple[list[int], bool]]
"""(text, limit) -> (at most `limit` ids including the final </s>, whether the text was cut)."""


class TextEncoder:
    """A UMT5 encoder with its tokenizer.

    Attributes:
        model: transformers' UMT5EncoderModel, on whatever device it was moved to last.
        text_len: tokens of every embedding; longer prompts are cut (and a warning is logged, once).
    """

    def __init__(self, model: UMT5EncoderModel, tokenizer: Tokenizer, text_len: int = TEXT_LENGTH):
        self.model, self.tokenizer, self.text_len = model, tokenizer, text_len
        self._told: set[str] = set()

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
                else one beside it.

        Raises:
            CheckpointError: not a UMT5 encoder, incomplete, or no tokenizer to be found.
        """
        if path == "pocket":
            path, tokenizer = weights_folder() / TEXT_ENCODER_FILE, weights_folder() / TOKENIZER_FILE
        content, metadata = read_file(path)
        weights = hugging_face_names(content, path)
        model = build_encoder(weights, device, dtype, fields=_stated_config(metadata), path=path)
        tokenize = find_tokenizer(path, content.get(TOKENIZER_TENSOR), tokenizer)
        return cls(model, tokenize, int(metadata.get("text_len", TEXT_LENGTH)))

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the encoder; returns itself."""
        self.model.to(device)
        return self

    def all_ids(self, text: str) -> list[int]:
        """Ids of a prompt of any length, with the final </s>."""
        return self.tokenizer(clean(text), _UNCUT)[0]

    def cuts(self, texts: Iterable[str]) -> list[str]:
        """What is said of those texts that have too many tokens, see `told_cut`. Nothing more is logged of them."""
        cuts = {text: told_cut(text, lambda part: len(self.all_ids(part)), self.text_len) for text in texts}
        self._told |= set(cuts)
        return [cut for cut in cuts.values() if cut is not None]

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """ids and mask [N, L], int64 on the CPU, padded with 0."""
        ids = torch.zeros(len(texts), self.text_len, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            tokens, cut = self.tokenizer(clean(text), self.text_len)
            if cut and text not in self._told:
                logger.warning(*self.cuts([text]))
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            mask[row, : len(tokens)] = 1
        vocabulary = self.model.config.vocab_size
        if len(texts) and int(ids.max()) >= vocabulary:
            raise CheckpointError(
                f"the tokenizer does not belong to this text encoder: it makes the id {int(ids.max())}, "
                f"and the encoder knows {vocabulary}"
            )
        return ids, mask

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embeddings [N, L, 4096], float32 on the CPU; zero after each prompt's end and past the encoder's width.

        One prompt at a time: memory stays flat, and an embedding does not depend on its neighbours in the list.
        """
        ids, mask = self.tokenize(texts)
        contexts = [encode_ids(self.model, ids[i : i + 1], mask[i : i + 1]).float().cpu() for i in range(len(texts))]
        if not contexts:
            return torch.zeros(0, self.text_len, CONTEXT_WIDTH)
        context = torch.cat(contexts)
        return F.pad(context, (0, CONTEXT_WIDTH - context.shape[-1]))


def clean(text: str) -> str:
    """White space as Wan's cleaning leaves it: single blanks, none at the ends.

    Wan's also repairs broken encodings and resolves HTML entities (ftfy), which typed prompts have no use for.
    """
    return re.sub(r"\s+", " ", text).strip()


def told_cut(text: str, count: Callable[[str], int], limit: int) -> str | None:
    """What is said of a prompt of more than `limit` tokens: how many, and from where on nothing is read of it.

    count: the tokens of a text, with its final </s>. None for a prompt that fits.
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


def encode_ids(model: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Embeddings [N, L, D] of ids and mask [N, L] (mask 1 = token, padding at the end), zero at the padding.

    Padding is attended by nobody, so only as many places as the longest prompt has tokens are computed.
    """
    device = model.shared.weight.device
    longest = int(mask.sum(dim=1).max())
    short_mask = mask[:, :longest].to(device)
    hidden = model(input_ids=ids[:, :longest].to(device), attention_mask=short_mask).last_hidden_state
    return F.pad(hidden * short_mask.unsqueeze(-1), (0, 0, 0, ids.shape[1] - longest))


def hugging_face_names(content, path="the text encoder") -> dict[str, Tensor]:
    """An encoder's weights under Hugging Face's names, from Wan's names or Hugging Face's; the tokenizer left out.

    Raises CheckpointError where the content is no UMT5 encoder.
    """
    tensors = _unwrapped(choose(content, None, path).tensors)
    quantised = [name for name in tensors if name.endswith(QUANTISED)]
    if quantised:
        raise CheckpointError(
            f"{path} is quantised: it holds {sample(quantised)} scales. Load it with ComfyUI's CLIPLoader (type wan), "
            "or give umt5_xxl_fp16.safetensors or Wan's .pth"
        )
    if "token_embedding.weight" in tensors and "blocks.0.attn.q.weight" in tensors:
        return _from_wan(tensors)
    if EMBEDDING in tensors or EMBEDDING_TWIN in tensors:
        renamed = {name: value for name, value in tensors.items() if not name.startswith(ASIDE)}
        twin = renamed.pop(EMBEDDING_TWIN, None)
        return renamed if EMBEDDING in renamed else {EMBEDDING: twin, **renamed}
    kind = recognise(tensors)
    what = kind.what if kind else f"something else; it holds {sample(map(str, content))}"
    raise CheckpointError(
        f"{path} is not a UMT5 text encoder: it is {what}. Take Wan's models_t5_umt5-xxl-enc-bf16.pth or ComfyUI's "
        "umt5_xxl_fp16.safetensors"
    )


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what stands before the embedding's, such as `module.`; of a bundle, those of the encoder alone."""
    tensors = {unwrap(str(name)): value for name, value in tensors.items()}
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


def build_encoder(
    weights: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    fields: Mapping | None = None,
    path="the text encoder",
) -> UMT5EncoderModel:
    """A UMT5 encoder with these weights (Hugging Face's names), built on `meta`, loaded strictly.

    Args:
        fields: entries of UMT5Config that the shapes do not tell; UMT5's own otherwise.

    Raises:
        CheckpointError: missing or unexpected names, or other shapes.
    """
    UMT5Config, UMT5EncoderModel = _transformers()
    config = UMT5Config(**{**_shapes(weights, path), **(fields or {})})
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    expected = {name: value for name, value in model.state_dict().items() if name != EMBEDDING_TWIN}
    check_fit(expected, weights, path)
    require_fractions(weights, path)
    if dtype is None and weights[EMBEDDING].dtype == torch.float16:
        dtype = torch.bfloat16
    placed = {name: value.to(device=device, dtype=dtype) for name, value in weights.items()}
    model.load_state_dict({**placed, EMBEDDING_TWIN: placed[EMBEDDING]}, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _transformers():
    """transformers' two classes; imported late, because that takes seconds."""
    try:
        from transformers import UMT5Config, UMT5EncoderModel
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"the text encoder needs the package transformers, which cannot be imported: {error} "
            "Install it, or, where it is there, make torchvision match PyTorch (its import is what usually fails)"
        ) from error
    return UMT5Config, UMT5EncoderModel


def _shapes(weights: Mapping[str, Tensor], path) -> dict:
    """UMT5Config's fields: those the shapes tell, then UMT5's constants (the same in every published size)."""
    layer = "encoder.block.0.layer.{}"
    q = layer.format("0.SelfAttention.q.weight")
    bias = layer.format("0.SelfAttention.relative_attention_bias.weight")
    gate = layer.format("1.DenseReluDense.wi_0.weight")
    missing = [name for name in (EMBEDDING, q, bias, gate) if name not in weights]
    if missing:
        raise CheckpointError(f"{path} is no complete UMT5 encoder: it lacks {sample(missing)}")
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


def _stated_config(metadata: Mapping[str, str]) -> dict:
    """UMT5Config's fields that no shape tells, from the metadata (the built-in encoder has them)."""
    stated = json.loads(metadata.get("config", "{}"))
    return {name: stated[name] for name in STATED if name in stated}


def find_tokenizer(path: str | os.PathLike, embedded: Tensor | None, given: str | os.PathLike | None) -> Tokenizer:
    """The tokenizer given, else the one inside the encoder's file, else one beside it.

    Raises CheckpointError with the places looked at where there is none.
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
            "beside it, or take ComfyUI's umt5_xxl_fp16.safetensors, which carries its tokenizer"
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
