"""Two ways of computing the same on a CPU, side by side in one run: convolutions and attention.

`longlive_core/vae/convolution.py` and `model/attention.py` each take one of them by a fixed rule; a ratio below 1 here
says that the rule is wrong for this machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from longlive_core.config import ModelConfig, StreamConfig
from longlive_core.model.attention import sdpa
from longlive_core.train.causal_start.teacher_forcing import matmul_attention
from longlive_core.vae import StreamingDecoder, convolution

ROUNDS = 7


def both_ways(model: ModelConfig, decoder: StreamingDecoder, size: tuple[int, int], stream: StreamConfig) -> dict:
    """Milliseconds of either way at a rollout's shapes, and how many times as fast the one that is taken is."""
    return {
        "decoding a chunk": convolutions(decoder, size, stream),
        "self-attention": attentions(model, size, stream, decoder.dtype),
    }


def convolutions(decoder: StreamingDecoder, size: tuple[int, int], stream: StreamConfig) -> dict:
    latents = torch.randn(1, 16, stream.chunk, size[1] // 8, size[0] // 8)
    decoder.reset()
    decoder.decode(latents)
    ours = milliseconds(lambda: decoder.decode(latents))
    worth, convolution.worth_onednn = convolution.worth_onednn, lambda *given: False
    try:
        theirs = milliseconds(lambda: decoder.decode(latents))
    finally:
        convolution.worth_onednn = worth
    return compared("oneDNN where worth it", ours, "PyTorch's choice", theirs)


def attentions(model: ModelConfig, size: tuple[int, int], stream: StreamConfig, dtype: torch.dtype) -> dict:
    frame = model.tokens_per_frame((size[1] // 8, size[0] // 8))
    q, k, v = (
        torch.randn(1, frames * frame, model.num_heads, model.head_dim).to(dtype)
        for frames in (stream.chunk, stream.window, stream.window)
    )
    ours, theirs = (milliseconds(lambda way=way: way(q, k, v)) for way in (sdpa, matmul_attention))
    return compared("scaled_dot_product_attention", ours, "two matrix products", theirs)


def compared(name: str, ours: float, other: str, theirs: float) -> dict:
    return {
        "taken": name,
        "milliseconds": {name: round(ours, 2), other: round(theirs, 2)},
        f"{other} / {name}": round(theirs / ours, 2),
    }


def milliseconds(function: Callable) -> float:
    """Median of some calls, after one that warms up."""
    function()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
