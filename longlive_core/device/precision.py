"""Which dtype a device computes in best: bfloat16, which has the range of float32, or float16 on older GPUs."""

from __future__ import annotations

import os

import torch

CPU_BF16 = "LONGLIVE_CPU_BF16"  # environment variable
DTYPES = {
    "bf16": torch.bfloat16,
    "bfloat16": torch.bfloat16,
    "fp32": torch.float32,
    "float32": torch.float32,
    "fp16": torch.float16,
    "float16": torch.float16,
}


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype of a name; `auto` is the best one of the device. ValueError: an unknown name."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return _best_dtype(device)
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}: allowed are auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _best_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device computes in it, float16 on older GPUs (NVIDIA's before Ampere), else float32."""
    if device.type == "cpu":
        return torch.bfloat16 if cpu_computes_bf16() else torch.float32
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "mps":  # bfloat16 came with macOS 14
        return torch.bfloat16 if torch.backends.mps.is_macos_or_newer(14, 0) else torch.float16
    return torch.bfloat16 if device.type == "xpu" else torch.float32


def cpu_computes_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX); emulated, it is slower than float32.

    Linear layers were 2.5 and 3D convolutions 8 times as fast as in float32 on one core of a CPU with AVX512-BF16;
    without it bfloat16 reaches 0.35 GFLOP/s. This checks the processor, not the variables that limit PyTorch and oneDNN
    to older instructions; the environment variable LONGLIVE_CPU_BF16 = 0 or 1 overrides it. PyTorch's probes have
    private names; without them the result is False. ValueError: another value of the variable.
    """
    given = os.environ.get(CPU_BF16, "")
    if given not in ("", "0", "1"):
        raise ValueError(
            f"the environment variable {CPU_BF16} is {given!r}: allowed are 0 (auto is float32 on a CPU), "
            "1 (bfloat16), or not set (decided by the processor)"
        )
    if given:
        return given == "1"
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def working_dtype() -> torch.dtype:
    """Return the dtype in which a CPU trains small models."""
    return resolve_dtype("auto", torch.device("cpu"))
