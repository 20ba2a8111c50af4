"""Step: the device's own maximum, to compare the speed of a film with.

Random numbers throughout: matrix products of zeros run faster than real ones. Copies count bytes read and written.
"""

from __future__ import annotations

import statistics
import time

from .notes import Notes, Setting

REPEATS = 10
SHAPE = {  # of LongLive 1.3B at 832x480, and of the trial run
    False: {"square": 8192, "rows": 4680, "width": 1536, "inner": 8960, "keys": 18720, "heads": 12, "megabytes": 2048},
    True: {"square": 128, "rows": 48, "width": 64, "inner": 96, "keys": 96, "heads": 2, "megabytes": 1},
}
HEAD = 128


def run(setting: Setting, notes: Notes) -> None:
    shape, device = SHAPE[setting.tiny], setting.device
    found: dict[str, dict] = {}
    parts = {"matrix product": products, "copy": copies, "attention": attention, "convolution": convolution}
    for name, part in parts.items():
        try:
            found[name] = part(device, shape)
        except RuntimeError as error:  # this device lacks it, or the memory for it
            found[name] = {"error": str(error).splitlines()[0]}
        notes.add(ceilings=found)
    notes.add(shapes=shape, headline=_headline(found))


def _headline(found: dict[str, dict]) -> str:
    wanted = (
        ("matrix product", "bfloat16 square, TFLOP/s"),
        ("matrix product", "int8 square, TOP/s"),
        ("attention", "PyTorch chooses, TFLOP/s"),
        ("copy", "on the device, GB/s"),
    )
    return "; ".join(f"{part}: {what} {found[part].get(what, 'failed')}" for part, what in wanted)


def seconds(action, device: str) -> float:
    """Return the median time of an action on the device, after a warm-up."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    times = []
    for number in range(REPEATS + 3):
        wait()
        began = time.perf_counter()
        action()
        wait()
        times += [time.perf_counter() - began] if number >= 3 else []
    return statistics.median(times)


def products(device: str, shape: dict) -> dict[str, float]:
    import torch

    from longlive_core.quant import int_mm

    square, rows, width, inner = (shape[name] for name in ("square", "rows", "width", "inner"))
    found = {}
    for label, (m, k, n) in {"square": (square,) * 3, "the model's widest layer": (rows, width, inner)}.items():
        for dtype in (torch.bfloat16, torch.float16):
            a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(n, k, device=device, dtype=dtype)
            rate = 2 * m * k * n / seconds(lambda a=a, b=b: a @ b.t(), device) / 1e12
            found[f"{str(dtype).removeprefix('torch.')} {label}, TFLOP/s"] = round(rate, 3)
        a, b = (torch.randint(-128, 128, size, device=device, dtype=torch.int8) for size in ((m, k), (n, k)))
        rate = 2 * m * k * n / seconds(lambda a=a, b=b: int_mm(a, b.t()), device) / 1e12
        found[f"int8 {label}, TOP/s"] = round(rate, 3)
    return found


def copies(device: str, shape: dict) -> dict[str, float]:
    import torch

    size = shape["megabytes"] * 2**20
    there, other = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    found = {"on the device, GB/s": round(2 * size / seconds(lambda: other.copy_(there), device) / 1e9, 2)}
    part = size // 8
    for label, pinned in (("pinned", device == "cuda"), ("pageable", False)):
        here = torch.empty(part, dtype=torch.uint8, pin_memory=pinned)
        for way, target, source in (("to", there[:part], here), ("from", here, there[:part])):
            taken = seconds(lambda t=target, s=source: t.copy_(s), device)
            found[f"{way} the device, {label}, GB/s"] = round(part / taken / 1e9, 2)
    return found


def attention(device: str, shape: dict) -> dict[str, float]:
    """Time a chunk's queries against a full window, in bf16, by every implementation that PyTorch has here."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from longlive_core.model.attention import default_attention, sdpa

    rows, keys, heads = shape["rows"], shape["keys"], shape["heads"]
    q, k, v = (torch.randn(1, n, heads, HEAD, device=device, dtype=torch.bfloat16) for n in (rows, keys, keys))
    operations = 4 * rows * keys * heads * HEAD / 1e12

    def rate(function) -> float:
        return round(operations / seconds(lambda: function(q, k, v), device), 3)

    found = {"PyTorch chooses, TFLOP/s": rate(sdpa), "longlive_core chooses, TFLOP/s": rate(default_attention)}
    for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION") if device == "cuda" else ():
        try:
            with sdpa_kernel(getattr(SDPBackend, name)):
                found[f"{name}, TFLOP/s"] = rate(sdpa)
        except RuntimeError as error:
            found[name] = str(error).splitlines()[0]
    return found


def convolution(device: str, shape: dict) -> dict[str, float]:
    """Time the VAE's widest convolution next to the pixels, for one latent frame, in both memory layouts."""
    import torch

    channels, height, width = (96, 480, 832) if shape["rows"] == 4680 else (8, 32, 64)
    layer = torch.nn.Conv3d(channels, channels, 3, padding=(0, 1, 1), device=device, dtype=torch.bfloat16)
    x = torch.randn(1, channels, 6, height, width, device=device, dtype=torch.bfloat16)
    operations, found = 2 * channels * channels * 27 * 4 * height * width / 1e12, {}
    for label, layout in (("channels first", torch.contiguous_format), ("channels last", torch.channels_last_3d)):
        given, conv = x.to(memory_format=layout), layer.to(memory_format=layout)
        with torch.no_grad():
            found[f"{label}, TFLOP/s"] = round(operations / seconds(lambda g=given, c=conv: c(g), device), 3)
    return found
