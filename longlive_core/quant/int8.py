"""INT8 arithmetic of a linear layer: weights and activations in 8 bits (W8A8), sums in exact 32-bit integers.

    y = (x_q @ w_q.T) * x_scale * w_scale + bias

Symmetric, round to nearest; `w_scale` is one number per output channel, fixed; `x_scale` is one per token, from that
token's largest magnitude (as in LLM.int8() and SmoothQuant's dynamic mode, without outlier handling).

Shapes: M tokens, K input features, N output features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 127  # largest int8; -128 is not used, so that the range is symmetric
MAX_FEATURES = (2**31 - 1) // LARGEST**2  # input features whose products always fit into an int32 sum
SMALLEST_SCALE = 1e-30  # for rows of zeros, which would otherwise be divided by zero
SUMS_AT_ONCE = 2**24  # elements of the int32 product [M, N] at a time: 64 MiB, and the same again in float32
EXACT_IN_FLOAT32 = 1024  # products of int8 that float32 sums without rounding: 1024 * 128 * 128 = 2**24


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise [..., K] -> int8 [..., K] and float32 scales [..., 1], whose product is about x.

    A row of zeros becomes zeros. A row with infinities or NaN gets an infinite or NaN scale, so that the layer's output
    shows them instead of hiding them in the integers.
    """
    x = x.float()
    scale = (x.abs().amax(dim=-1, keepdim=True) / LARGEST).clamp_min(SMALLEST_SCALE)
    return (x / scale).round_().to(torch.int8), scale


def dequantise(weight: Tensor, scale: Tensor) -> Tensor:
    """Return the weight [N, K] in float32, from integers and scales, one per output channel or one for all."""
    return weight.float() * scale.float().reshape(-1, 1)


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute a linear layer with INT8 weights: x [..., K] -> [..., N] in x's dtype and on its device.

    Args:
        x: floating point, any leading shape; quantised per token.
        weight: int8 [N, K]. scale: float32, N numbers or one. bias: [N], any floating dtype.

    Raises:
        RuntimeError: x requires a gradient; there is none through integers.
    """
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("INT8 layers have no gradients; train the model before it is quantised")
    kernel = _kitchen_linear() if x.is_cuda else None
    if kernel is not None:
        return kernel(x.contiguous(), weight, scale, bias, x.dtype)
    rows = x.reshape(-1, x.shape[-1])  # [M, K]
    out = x.new_empty(rows.shape[0], weight.shape[0])
    step = max(SUMS_AT_ONCE // weight.shape[0], 1)
    for start in range(0, rows.shape[0], step):
        part = slice(start, start + step)
        tokens, token_scale = quantise_rows(rows[part])
        y = int_mm(tokens, weight.t()).float().mul_(token_scale).mul_(scale.reshape(1, -1))
        out[part] = y if bias is None else y.add_(bias)
    return out.unflatten(0, x.shape[:-1]) if x.ndim > 1 else out[0]


def int_mm(a: Tensor, b: Tensor) -> Tensor:
    """Multiply int8 [M, K] @ int8 [K, N] -> int32 [M, N], exactly, on every device."""
    if a.device.type == "cuda" and _multiplies_int8(a.device):
        return padded_int_mm(a, b)
    if a.device.type == "cpu" and _cpu_is_exact():
        return torch._int_mm(a, b)
    return float_int_mm(a, b)


def padded_int_mm(a: Tensor, b: Tensor) -> Tensor:
    """Run `torch._int_mm` on shapes that cuBLAS does not support: it needs M > 16, and K and N in multiples of 8."""
    m, k = a.shape
    n = b.shape[1]
    rows, depth, columns = max(32 - m, 0), -k % 8, -n % 8
    if rows or depth:
        a = F.pad(a, (0, depth, 0, rows))
    if depth or columns:
        b = F.pad(b, (0, columns, 0, depth))
    return torch._int_mm(a, b)[:m, :n]


def float_int_mm(a: Tensor, b: Tensor) -> Tensor:
    """Compute the same product in float32, for devices without integer products: exact, since no sum is rounded."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], EXACT_IN_FLOAT32):
        part = slice(start, start + EXACT_IN_FLOAT32)
        total += (a[:, part].float() @ b[part].float()).to(torch.int32)
    return total


def fix_choices_for_compile() -> None:
    """Let torch.compile treat decisions made once per process as constants; repeating them would break the graph."""
    for decision in (_multiplies_int8, _cpu_is_exact, _kitchen_linear):
        torch.compiler.assume_constant_result(decision.__wrapped__)


@cache
def _multiplies_int8(device: torch.device) -> bool:
    """Return whether the GPU multiplies INT8: NVIDIA's integer tensor cores begin with Turing."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (7, 5)


@cache
def _cpu_is_exact() -> bool:
    """Return whether this CPU's `torch._int_mm` is exact: instructions older than VNNI clip sums of two products."""
    a = torch.full((64, 256), LARGEST, dtype=torch.int8)
    expected = 256 * LARGEST**2
    try:
        return all(bool((torch._int_mm(a, sign * a.t()) == sign * expected).all()) for sign in (1, -1))
    except (RuntimeError, NotImplementedError, AttributeError):  # builds of PyTorch without it on the CPU
        return False


@cache
def _kitchen_linear() -> Callable[..., Tensor] | None:
    """Return comfy-kitchen's fused layer if it is installed with a backend other than eager, which is no faster."""
    try:
        import comfy_kitchen
    except ImportError:
        return None
    own = [backend for name, backend in comfy_kitchen.list_backends().items() if name != "eager"]
    usable = (b["available"] and not b["disabled"] and "int8_linear" in b["capabilities"] for b in own)
    return comfy_kitchen.int8_linear if any(usable) else None
