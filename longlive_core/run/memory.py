"""The memory of a run, estimated from shapes before it begins, and the memory that the device has.

The estimate is a lower bound: what the run certainly holds at its peak. It leaves out what libraries allocate for
themselves (workspaces, fragmentation), so a refusal means that the run cannot succeed, not that it might fail.
The coefficients are those of the core's own forward and decoder; `tests/test_memory.py` traces both on `meta` tensors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from ..config import ModelConfig, StreamConfig
from ..device.placement import PLACEMENTS, RESIDENT, Placement
from ..model import CausalWan
from ..timeline import Plan
from ..vae import StreamingDecoder
from ..words.quantities import gigabytes

# Bytes of the decoder, per pixel of a frame, unit of the VAE's width and byte of its dtype. MEMORY: what its causal
# convolutions keep between two frames. FRAME: what the widest layer holds, for each pixel frame of a piece.
VAE_MEMORY, VAE_FRAME = 24.6, 6.0
# Tensors of the model's width that a pass holds besides the feed-forward's two.
PASS_TENSORS = 3
# Bytes per key and unit of width while a window is rotated (float32 temporaries), with relative positions.
ROTATION = 12
PIXEL_FRAMES = 4  # of one latent frame, the unit that is decoded at a time
OWN_MAIN_MEMORY = ("cpu", "mps")  # kinds of device
_CPU_SHORTAGE = "DefaultCPUAllocator"  # in PyTorch's RuntimeError if main memory is short


class NotEnoughMemory(ValueError):
    """The run does not fit on the device. The message states what is needed, what is free and what to lower."""


@dataclass(frozen=True)
class Need:
    """Bytes that a run holds on its device.

    Attributes:
        weights: of model and VAE that must be on the device; 0 if they may stay in main memory until they are used.
        cache: keys and values.
        vae: the decoder's memory from frame to frame.
        passes: activations of the widest pass of the transformer.
        decoding: activations of decoding one latent frame.
        frames: latent frames in the cache.
        advice: what to lower, most effective first.
        saved_by_int8: bytes of weights that Quantize INT8 would save; 0 if they are quantised.
        full_weights: bytes of model and VAE, on any device.
        placement: what waits in main memory while it is not in use.
    """

    weights: int
    cache: int
    vae: int
    passes: int
    decoding: int
    frames: int
    advice: str
    saved_by_int8: int = 0
    full_weights: int = 0
    placement: Placement = RESIDENT

    @property
    def run(self) -> int:
        """Bytes besides the weights at the peak: a pass, or decoding."""
        denoise = self.cache + self.passes + (0 if self.placement.vae_moves else self.vae)
        decode = self.vae + self.decoding + (0 if self.placement.cache_moves else self.cache)
        return max(denoise, decode)

    @property
    def total(self) -> int:
        return self.weights + self.run

    @property
    def work(self) -> int:
        """Activations of a pass or of decoding, whichever is more."""
        return max(self.passes, self.decoding)

    @property
    def moving(self) -> int:
        """Bytes that wait in main memory while they are not in use."""
        return self.cache * self.placement.cache_moves + self.vae * self.placement.vae_moves

    def placed(self, device: torch.device, available: int | None) -> Need:
        """Return it with the fastest placement that fits, with all weights, into `available` bytes, else the smallest.

        device: nothing moves if its memory is main memory. available: None if unknown.
        """
        if device.type in OWN_MAIN_MEMORY:
            return self
        choices = [replace(self, placement=placement) for placement in PLACEMENTS]
        fitting = (need for need in choices if available is None or need.full_weights + need.run <= available)
        return next(fitting, choices[-1])

    def proposes_int8(self, available: int) -> bool:
        """Return whether a faster placement than this one would fit with INT8 weights."""
        if self.placement == RESIDENT or not self.saved_by_int8:
            return False
        faster = PLACEMENTS[: PLACEMENTS.index(self.placement)]
        weights = self.full_weights - self.saved_by_int8
        return any(replace(self, placement=placement).run + weights <= available for placement in faster)

    def describe(self) -> str:
        parts = (
            ("weights", self.weights),
            (f"keys and values of {self.frames} latent frames", self.cache),
            ("VAE's memory", self.vae),
            ("activations", self.work),
        )
        text = f"{gigabytes(self.total)} ({', '.join(f'{what} {gigabytes(size)}' for what, size in parts if size)})"
        return text if self.placement == RESIDENT else f"{text}; {self.describe_placement()}"

    def describe_placement(self) -> str:
        """Describe what moves, in half a sentence."""
        if self.placement == RESIDENT:
            return "everything stays on the device"
        what = "keys and values" if not self.placement.vae_moves else "keys and values and the VAE's memory in turn"
        return f"{what} wait in main memory ({gigabytes(self.moving)}) while they are not in use"

    def check(self, available: int | None, device: str) -> None:
        """Raise NotEnoughMemory if the device has less; None (unknown) is enough."""
        if available is not None and self.total > available:
            int8 = self.saved_by_int8 if self.weights else 0
            quantise = f", or take the model in INT8 (saves {gigabytes(int8)})" if int8 else ""
            raise NotEnoughMemory(
                f"the run needs at least {self.describe()} on {device}, which has {gigabytes(available)} available. "
                f"Lower {self.advice}{quantise}"
            )


@dataclass(frozen=True)
class MemoryPlan:
    """What a run needs, and what is available.

    Attributes:
        need: bytes on the device, and what waits in main memory.
        available: bytes on the device for it; None: unknown.
        main: bytes of main memory available in addition; 0 if the device is the CPU, or unknown.
    """

    need: Need
    available: int | None
    main: int = 0


def estimate(
    model: CausalWan,
    decoder: StreamingDecoder,
    plan: Plan,
    stream: StreamConfig,
    size: tuple[int, int],
    weights: int | None = None,
) -> Need:
    """Estimate the memory of rendering `plan` at `size` (width, height).

    weights: bytes of model and VAE that must be on the device; by default counted from their parameters (0 if they may
    be offloaded).
    """
    longest = plan.longest_shot * plan.chunk
    frames = longest if stream.window == -1 else stream.window
    per_pixel = size[0] * size[1] * decoder.width * decoder.dtype.itemsize
    vae = int(VAE_MEMORY * per_pixel)
    decoding = int(VAE_FRAME * PIXEL_FRAMES * per_pixel)  # one latent frame is decoded at a time, whatever the chunk
    tokens = model.config.tokens_per_frame((size[1] // 8, size[0] // 8))
    passed = max(stream.chunk, _widest_recache(plan, stream, frames))
    passes = _pass_bytes(model.config, tokens, passed, min(frames, longest), stream, model.dtype.itemsize)
    cache = 2 * model.config.num_layers * frames * tokens * model.config.dim * model.dtype.itemsize
    full = weight_bytes(model.module) + weight_bytes(decoder.module)
    weights = full if weights is None else weights
    int8 = _saved_by_int8(model)
    return Need(weights, cache, vae, passes, decoding, frames, _advice(stream, model.dtype), int8, full)


def _saved_by_int8(model: CausalWan) -> int:
    """Return the bytes that INT8 saves in the blocks' linear layers; 0 if they are as small already."""
    weights = [tensor for block in model.module.blocks for tensor in block.parameters() if tensor.ndim == 2]
    smallest, config = min((tensor.element_size() for tensor in weights), default=1), model.config
    return config.num_layers * (8 * config.dim**2 + 2 * config.dim * config.ffn_dim) * (smallest - 1)


def _widest_recache(plan: Plan, stream: StreamConfig, window: int) -> int:
    """Return the latent frames of the widest recache, see `Shot.recache`; 0 without one."""
    shot = widest = 0
    for prompt in plan.prompts[1:]:
        if prompt.transition == "cut":
            shot = prompt.start_chunk
        elif prompt.transition == "recache":
            frames = (prompt.start_chunk - shot) * plan.chunk
            kept = stream.sink if frames > window and stream.sink_policy == "held" else 0
            widest = max(widest, min(frames, window) - kept)
    return widest


def _pass_bytes(config: ModelConfig, tokens: int, passed: int, seen: int, stream: StreamConfig, itemsize: int) -> int:
    """Return the bytes of activations of a pass over `passed` latent frames that attends to `seen` of them."""
    forward = passed * tokens * (2 * config.ffn_dim + PASS_TENSORS * config.dim) * itemsize
    rotation = ROTATION * seen * tokens * config.dim if stream.positions == "relative" else 0
    return max(forward, rotation)


def _advice(stream: StreamConfig, dtype: torch.dtype) -> str:
    advice = ["width and height"]
    if stream.window == -1:
        advice.insert(0, "the window (it is -1, the whole shot; LongLive's is 12 with sink 3), or the film's length")
    elif stream.window > StreamConfig.window:
        advice.insert(0, f"the window (it is {stream.window}; LongLive's is {StreamConfig.window})")
    if dtype.itemsize > 2:
        advice.append("the dtype (bf16 takes half)")
    return ", or ".join(advice)


def weight_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensors in (module.parameters(), module.buffers()) for tensor in tensors)


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that can still be allocated, with what PyTorch holds unused; None if unknown.

    On a CPU: main memory and swap, as Linux reports them.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "cpu" and os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo", encoding="ascii") as file:
            entries = dict(line.split(":", 1) for line in file)
        return sum(int(entries[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree") if name in entries)
    return None


def available_memory(device: torch.device, need: Need) -> int | None:
    """Return the bytes for a run whose weights are on `device` already, and count; None if unknown."""
    free = free_memory(device)
    return None if free is None else free + need.weights


@contextmanager
def shortage_explained(need: Need, device: torch.device) -> Iterator[None]:
    """Turn PyTorch's out-of-memory errors inside the block into NotEnoughMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) and _CPU_SHORTAGE not in str(error):
            raise
        raise NotEnoughMemory(
            f"{device} ran out of memory: the run needs {need.describe()} and somewhat more. Lower {need.advice}, or "
            "end other programs that use it"
        ) from error
