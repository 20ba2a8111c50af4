"""The causal forward over a MODEL with the patches of other nodes; `patches` decides which of them have an effect.

Written against ComfyUI 0.3.75, and KJNodes' compile, attention and NAG nodes of August 2026.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.ldm.modules.attention as comfy_attention
import torch
from torch import Tensor

from ...longlive_core.config import ModelConfig
from ...longlive_core.model import CausalWan
from ...longlive_core.model.compiled import compile_blocks
from ...longlive_core.model.guidance import Guidance
from ...longlive_core.quant.int8 import fix_choices_for_compile

COMPILE_KEY = "torch.compile"  # key of the wrapper that replaces the model's modules by compiled ones
COMPILE_OPTIONS = "torch_compile_kwargs"  # the user's choices, in a MODEL's options
CROSS_ATTENTION = "diffusion_model.blocks.{}.cross_attn.forward"


def original(module: Any) -> Any:
    """Return a module, or the module that torch.compile wraps."""
    return getattr(module, "_orig_mod", module)


def compute_dtype(model) -> torch.dtype:
    """Return the dtype that a MODEL computes in."""
    return model.get_model_object("manual_cast_dtype") or model.model.get_dtype()


class HostAttention:
    """ComfyUI's attention, as chosen by the user's flags, the MODEL's patches and its file's preferences.

    `layer` and `module`: number of the block and attention module computed next; set by `HostWan`.
    """

    def __init__(self, module: Any, options: dict):
        self.home, self.layer, self.module = type(module.blocks[0].self_attn).__module__, 0, None
        self.options = {**options, "block_type": "double", "total_blocks": len(module.blocks)}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        joined = (t.flatten(2) for t in (q, k, v))
        options = {"transformer_options": {**self.options, "block_index": self.layer}}
        preferred = getattr(self.module, "comfy_attention", None)  # 0.40: requested by a file or a LoRA
        if preferred is not None:
            options["preferred_attention"] = preferred
        return self._function()(*joined, heads=q.shape[2], **options).unflatten(-1, q.shape[2:])

    def _function(self) -> Callable:
        """Look the function up at each use: some packs replace it in the module of ComfyUI's Wan during a run."""
        wan = sys.modules.get(self.home)
        return getattr(wan, "optimized_attention", comfy_attention.optimized_attention)


class HostWan(CausalWan):
    """`CausalWan` over a MODEL's module.

    Args:
        attention: a `HostAttention`.
        guidance: by block, see `guidance_of`.
    """

    def __init__(self, module: Any, *given, guidance: dict[int, Guidance], **named):
        super().__init__(module, *given, **named)
        self.guidance = guidance
        self._negative: dict[int, tuple[Tensor, Tensor]] = {}  # cross-attention keys and values of the negative prompt

    def _prompt_keys(self, context: Tensor):
        for layer, guidance in self.guidance.items():
            block, negative = self.module.blocks[layer], guidance.context.to(self.device, self.dtype)
            self._negative[layer] = self._within(block, self._block_keys, block.cross_attn, negative)
        return super()._prompt_keys(context)

    def _block(self, layer: int, block: Any, *given) -> Tensor:
        return super()._block(layer, original(block), *given)

    def _self_attention(self, layer: int, block: Any, *given) -> Tensor:
        self.attention.layer, self.attention.module = layer, block.self_attn
        return super()._self_attention(layer, block, *given)

    def _cross_attention(self, layer: int, block: Any, q: Tensor, prompt: tuple[Tensor, Tensor]) -> Tensor:
        self.attention.module = block.cross_attn
        positive = super()._cross_attention(layer, block, q, prompt)
        if layer not in self.guidance:
            return positive
        negative = super()._cross_attention(layer, block, q, self._negative_of(layer, q.shape[0]))
        return self.guidance[layer].apply(positive.flatten(2), negative.flatten(2)).view_as(positive)

    def _negative_of(self, layer: int, batch: int) -> tuple[Tensor, Tensor]:
        k, v = (t.expand(batch, -1, -1, -1) for t in self._negative[layer])
        return k, v


# --- compiled blocks -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compiler:
    """How a node compiles a MODEL. name: for reports. choice: all of the user's choices, as text. replays: whether
    CUDA graphs may be recorded."""

    name: str
    choice: str
    compile: Callable[[Callable], Callable]
    replays: bool


def compiler_of(model) -> Compiler | None:
    """Return the compiler that a node set on a MODEL: with ComfyUI's wrapper, or by compiled modules."""
    if any(COMPILE_KEY in by_key for by_key in model.wrappers.values()):
        chosen = {name: value for name, value in model.model_options.get(COMPILE_OPTIONS, {}).items() if value}
        text = {name: _named(value) for name, value in sorted(chosen.items())}
        return Compiler(
            f"torch.compile ({text.get('backend', 'inductor')})",
            str(text),
            lambda function: torch.compile(function, **chosen),
            "cudagraphs" in str(text) or chosen.get("mode") in ("reduce-overhead", "max-autotune"),
        )
    for part in (*model.object_patches.values(), *_driven(model)):
        if original(part) is not part:
            return Compiler("torch.compile (modules)", "modules", part.dynamo_ctx, replays=True)  # its mode is unknown
    return None


def _named(value: Any) -> str:
    """Return a text for a value that is the same in every process."""
    if isinstance(value, dict):
        return str({key: _named(each) for key, each in sorted(value.items())})
    return getattr(value, "__qualname__", None) or str(value)


def _driven(model) -> Iterator[Any]:
    """Yield the modules of a MODEL that some nodes replace in place by compiled ones."""
    module = model.model.diffusion_model
    yield module
    yield from original(module).blocks


# --- guidance --------------------------------------------------------------------------------------------------------


def guidance_of(model) -> dict[int, Guidance]:
    """Return, by block, the normalised attention guidance that KJNodes' WanVideoNAG set instead of cross-attention."""
    by_layer = {}
    for layer in range(len(original(model.model.diffusion_model).blocks)):
        guidance = as_guidance(model.object_patches.get(CROSS_ATTENTION.format(layer)))
        if guidance is not None:
            by_layer[layer] = guidance
    return by_layer


def as_guidance(patch: Any) -> Guidance | None:
    """Return a replaced cross-attention forward as guidance, if it is one. Its settings are in a closure."""
    for cell in getattr(getattr(patch, "__func__", None), "__closure__", None) or ():
        held = cell.cell_contents
        if all(hasattr(held, f"nag_{name}") for name in ("context", "scale", "alpha", "tau")):
            return Guidance(held.nag_context, held.nag_scale, held.nag_alpha, held.nag_tau)
    return None


# --- a run -----------------------------------------------------------------------------------------------------------


def host_wan(model, config: ModelConfig, **named) -> HostWan:
    """Return the causal forward over a MODEL, compiled if the user compiles it. named: see `CausalWan`."""
    module = original(model.model.diffusion_model)
    options = model.model_options.get("transformer_options", {})
    wan = HostWan(module, config, HostAttention(module, options), guidance=guidance_of(model), **named)
    compiler = compiler_of(model)
    if compiler is not None:
        fix_choices_for_compile()
        compile_blocks(wan, compiler.compile, compiler.name, copies=compiler.replays and wan.device.type == "cuda")
    return wan


@contextmanager
def sampling(model) -> Iterator[None]:
    """Run a MODEL's hooks as ComfyUI's own samplers do: nodes switch settings on and off there (such as FP16
    accumulation)."""
    model.pre_run()
    try:
        yield
    finally:
        model.cleanup()
