"""Detect NaN or infinity once per chunk, and trace it to the layer where it begins.

A NaN in a chunk stays in the cache and blackens every later chunk, so the run ends there. The check is one reduction
over a chunk's latents and one over its pixels. Only when it fails, the chunk is denoised again with a hook on every
layer, up to the first number that is not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..model import CausalWan, PromptKeys

OnPass = Callable[[int], None]


class NonFiniteError(ValueError):
    """The model's or the VAE's output holds NaN or infinity. The message names chunk, step, layer and likely cause."""


def is_finite(*tensors: Tensor) -> bool:
    """Return whether all floating-point numbers are finite; one synchronisation per tensor."""
    return all(
        bool(torch.isfinite(t.float() if t.element_size() == 1 else t).all())
        for t in tensors
        if t.is_floating_point() and t.device.type != "meta"
    )


def check_pixels(pixels: Tensor, chunk: int) -> None:
    """Raise NonFiniteError if a decoded chunk (its index in the film) holds NaN or infinity."""
    if not is_finite(pixels):
        raise NonFiniteError(
            f"chunk {chunk}: the VAE's pixels hold NaN or infinity, although the latents are finite. The cause is "
            f"the VAE, which computes in {_name(pixels.dtype)}. {_other_precision(pixels.dtype)}, and check the file "
            "with `python -m longlive_core check`"
        )


def find_cause(
    model: CausalWan, prompt: PromptKeys, cached: Callable[[int], tuple[Tensor, Tensor]], retry: Callable[[OnPass], Any]
) -> str:
    """Return where a chunk's numbers stop being finite, and the likely reason, as the rest of a sentence.

    Args:
        prompt: keys and values of the current prompt.
        cached: layer -> the keys and values that the chunk sees there, from `RollingCache.visible`.
        retry: denoises the chunk again; calls its argument with the step before every pass.
    """
    for layer, pair in enumerate(prompt):
        if not is_finite(*pair):
            return (
                f"the prompt's keys in blocks.{layer}.cross_attn are not finite before the first step: the text "
                "encoder's embedding or the layers that read it hold NaN; check both files, or choose fp32"
            )
    step = 0

    def on_pass(number: int) -> None:
        nonlocal step
        step = number

    try:
        with _hooked(model.module):
            retry(on_pass)
    except _Found as found:
        return f"step {step}, {_where(found, model, cached)}"
    return (
        "a second try of the same chunk was finite, so the cause is not a layer. Suspect the device "
        f"({model.device}; overclocked or too hot?) or an attention kernel"
    )


class _Found(Exception):
    """Raised by a hook at the first layer with a number that is not finite."""

    def __init__(self, name: str, layer: nn.Module, before: bool, largest: float):
        super().__init__(name)
        self.name, self.layer, self.before, self.largest = name, layer, before, largest


@contextmanager
def _hooked(module: nn.Module) -> Iterator[None]:
    leaves = [(name, layer) for name, layer in module.named_modules() if not any(layer.children())]
    handles = [layer.register_forward_hook(_hook(name)) for name, layer in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str):
    def hook(layer: nn.Module, inputs: tuple, output: Any) -> None:
        given = [t for t in inputs if isinstance(t, Tensor)]
        if not is_finite(*given):
            raise _Found(name, layer, before=True, largest=0.0)
        if isinstance(output, Tensor) and not is_finite(output):
            largest = max((float(t.abs().max()) for t in given if t.numel()), default=0.0)
            raise _Found(name, layer, before=False, largest=largest)

    return hook


def _where(found: _Found, model: CausalWan, cached: Callable[[int], tuple[Tensor, Tensor]]) -> str:
    """Return the layer and the most likely cause."""
    if not found.before:
        return f"layer {found.name}: {_reason(found, model.dtype)}"
    block = _block_number(found.name)
    if found.name.endswith("self_attn.o") and block is not None:
        if not is_finite(*cached(block)):
            return f"self-attention of block {block}: the keys or values of this or earlier chunks are not finite"
        return f"self-attention of block {block}: finite keys and values, so suspect the attention kernel"
    blocks = list(model.module.blocks)
    owners = [blocks[-1], model.module.head] if block is None else blocks[max(block - 1, 0) : block + 1]
    if not all(is_finite(*owner.parameters(recurse=False)) for owner in owners):
        return f"before layer {found.name}: the `modulation` weight of this block holds NaN or infinity; {_DAMAGED}"
    return f"between the layers before {found.name} (modulation, residual sum): {_precision(model.dtype)}"


_DAMAGED = "the file is damaged or a merged LoRA broke it: download it again, or remove the LoRA"


def _reason(found: _Found, dtype: torch.dtype) -> str:
    if not is_finite(*found.layer.parameters(recurse=False), *found.layer.buffers(recurse=False)):
        return f"its weights hold NaN or infinity; {_DAMAGED}"
    return f"its weights and inputs (up to {found.largest:.3g}) are finite; {_precision(dtype)}"


def _precision(dtype: torch.dtype) -> str:
    end = f", whose largest number is {torch.finfo(dtype).max:.0f}" if dtype == torch.float16 else ""
    return f"the numbers exceed {_name(dtype)}{end}. {_other_precision(dtype)}, or a lower LoRA strength"


def _other_precision(dtype: torch.dtype) -> str:
    return {torch.float16: "Choose bf16 or fp32", torch.bfloat16: "Choose fp32"}.get(dtype, "Try another model file")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _block_number(name: str) -> int | None:
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "blocks" and len(parts) > 1 and parts[1].isdigit() else None
