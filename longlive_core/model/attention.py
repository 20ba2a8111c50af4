"""The attention functions; every attention of the transformer calls one of them.

An `Attention` is a callable (q, k, v) -> out with q [B, Lq, N, D], k and v [B, Lk, N, D], out [B, Lq, N, D]
(N heads of D). There is never a mask: causality follows from the keys that are passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch.nn.functional as F
from torch import Tensor

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute PyTorch's scaled dot product attention, which works on every device."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


@lru_cache(maxsize=1)
def _flash_attn() -> Attention | None:
    try:
        from flash_attn import flash_attn_func
    except ImportError:
        return None
    return flash_attn_func


def default_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Use flash-attn if it is installed and supports these tensors (CUDA, 16 bits), else SDPA."""
    flash = _flash_attn() if q.is_cuda and q.element_size() == 2 else None
    return flash(q, k, v) if flash else sdpa(q, k, v)
