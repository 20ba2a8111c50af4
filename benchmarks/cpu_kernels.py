"""Compare two implementations of convolution and of attention on a CPU, side by side in one run.

`longlive_core/vae/convolution.py` and `model/attention.py` each choose one of them by a fixed rule; a ratio below 1
means that the rule is wrong for this machine.
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


def compare(model: ModelConfig, decoder: StreamingDecoder, size: tuple[int, int], stream: StreamConfig) -> dict:
    """Return milliseconds of both implementations at a rollout's shapes, and the speed-up of the chosen one."""
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
    """Return the median of several calls, after one warm-up call."""
    function()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
