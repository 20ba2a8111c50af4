"""Identify a MODEL, CLIP or VAE by a short name, the same that the command line gives the same weights.

`longlive_core/run/identity.py` defines what counts. A MODEL without patches has the command line's name; with patches,
its name depends on the weights and the patches. The weights are named once and keep that name, however they are loaded.

Stores contain films of earlier versions under other names, which `identity_earlier` still computes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...longlive_core.config import StreamConfig
from ...longlive_core.run.identity import Sample, identity, text_identity, weights_identity
from ...longlive_core.takes import Origin, VaeIdentity
from . import identity_earlier as earlier
from .patches import parts_with_effect
from .weights import weights_of

PREFIX = "diffusion_model."
TRANSFORMER = "transformer."  # between a text encoder's own name and Hugging Face's names
OVERRIDE = "optimized_attention_override"  # the attention's key in a MODEL's transformer options
CHANGING = ("comfy", "torch")  # libraries whose objects change during a render
_DEPTH = 4  # of nested functions

# By module: the names of its weights, by the dtype they are rounded to.
_names: WeakKeyDictionary[nn.Module, dict[Hashable, str]] = WeakKeyDictionary()
# By LoRA: the name of its weights, which ComfyUI casts when the LoRA runs in parallel to a layer (bypass).
_lora_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def film_origin(model, clip, dtype: torch.dtype, stream: StreamConfig, size: tuple[int, int], seed: int) -> Origin:
    """Return a film's origin with all its names. dtype: the compute dtype. Raises ValueError if a part has no name."""
    rest = (str(dtype).removeprefix("torch."), stream, size, seed)
    name, clip_name = model_identity(model, dtype), clip_identity(clip)
    olds = itertools.product(earlier.model_names(model), earlier.clip_names(clip))
    return Origin(name, clip_name, *rest, aliases=tuple(Origin(*old, *rest) for old in olds))


def model_identity(model, dtype: torch.dtype) -> str:
    """Identify a MODEL that computes in `dtype`: its weights, and the patches that may change a film.

    Raises ValueError if a weight has no content.
    """
    module = model.model.diffusion_model
    earlier.remember(module)
    weights = _once(module, dtype, lambda: weights_identity(weights_of(model, module, PREFIX, "MODEL"), dtype))
    return _with(
        weights,
        {
            "patches": _patches(model, PREFIX),
            "wrapped": _content(_wrapped(model)),
            "parts": _content(_parts(model)),
            "injections": _content(getattr(model, "injections", {})),
            "attention": _attention(model),
            "gguf": _dequantising(module),
        },
    )


def clip_identity(clip) -> str:
    """Identify a CLIP: its text encoder, and what nodes have set. Raises ValueError if a weight has no content."""
    patcher, module = clip.patcher, clip.patcher.model
    weights = _once(module, "text", lambda: text_identity(_text_names(weights_of(patcher, module, "", "CLIP"))))
    layer = getattr(clip, "layer_idx", None)
    return _with(
        weights,
        {
            "patches": _patches(patcher, ""),
            "layer": None if layer is None else [layer],
            "tokens": _content(getattr(clip, "tokenizer_options", {})),
            "gguf": _dequantising(module),
        },
    )


def vae_identity(vae, width: int) -> VaeIdentity:
    """Identify a VAE, with all its names. Raises ValueError if a weight has no content."""
    patcher, module, dtype = vae.patcher, vae.patcher.model, vae.vae_dtype
    weights = _once(module, dtype, lambda: weights_identity(weights_of(patcher, module, "", "VAE"), dtype))
    name = _with(weights, {"patches": _patches(patcher, ""), "parts": _content(parts_with_effect(patcher, "VAE part"))})
    return VaeIdentity(
        name, str(dtype), width, aliases=tuple(VaeIdentity(old, str(dtype), width) for old in earlier.vae_names(vae))
    )


def _with(weights: str, patches: Mapping[str, Any]) -> str:
    """Return the weights' own name if there are no patches, else a name for both."""
    patches = {kind: value for kind, value in patches.items() if value}
    return identity([weights, patches]) if patches else weights


def _once(module: nn.Module, key: Hashable, make: Callable[[], str]) -> str:
    names = _names.setdefault(module, {})
    if key not in names:
        names[key] = make()
    return names[key]


def _text_names(weights: dict[str, Sample | str]) -> dict[str, Sample | str]:
    """Return Hugging Face's names if a single encoder contains them, else the CLIP's own."""
    inside = {name.partition(TRANSFORMER)[2]: value for name, value in weights.items() if TRANSFORMER in name}
    encoders = {name.partition(TRANSFORMER)[0] for name in weights if TRANSFORMER in name}
    return inside if len(encoders) == 1 else weights


# --- patches ---------------------------------------------------------------------------------------------------------


def _patches(patcher, prefix: str) -> dict[str, Any]:
    """Return the LoRAs with their strengths, by weight."""
    return {name.removeprefix(prefix): patches for name, patches in patcher.patches.items() if name.startswith(prefix)}


def _wrapped(model) -> dict[str, Any]:
    return {name: value for name, value in getattr(model, "weight_wrapper_patches", {}).items() if value}


def _parts(model) -> dict[str, Any]:
    """Return the replaced parts of the module that change a film. The compute dtype is part of the origin anyway."""
    return {name: part for name, part in parts_with_effect(model).items() if name.startswith(PREFIX)}


def _attention(model) -> list:
    """Return what replaces the attention, with the options passed to it."""
    options = model.model_options.get("transformer_options", {})
    return [_content(options)] if OVERRIDE in options else []


def _dequantising(module: nn.Module) -> list[str]:
    """Return how ComfyUI-GGUF's layers dequantise, if the user chose it."""
    chosen = {(getattr(part, "dequant_dtype", None), getattr(part, "patch_dtype", None)) for part in module.modules()}
    return sorted(str(each) for each in chosen - {(None, None)})


def _content(value: Any, depth: int = _DEPTH) -> Any:
    """Return a value as plain data and tensors: functions by name and contents, objects by class and values."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return str(tuple(value.shape)) if value.is_meta else value
    if isinstance(value, Mapping):
        return {str(key): _content(each, depth) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_content(each, depth) for each in value]
    held = _held(value) if depth else ()
    return [getattr(value, "__qualname__", type(value).__qualname__), *(_content(each, depth - 1) for each in held)]


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))
    elif not isinstance(value, (nn.Module, type)):
        if isinstance(getattr(value, "weights", None), (tuple, list)):
            yield _lora_name(value)
        yield from (vars(value)[name] for name in ("inject", "adapters") if name in getattr(value, "__dict__", {}))
        if type(value).__module__.split(".")[0] not in CHANGING:
            plain = (bool, int, float, str, Tensor)
            yield {name: each for name, each in getattr(value, "__dict__", {}).items() if isinstance(each, plain)}


def _lora_name(value: Any) -> str:
    try:
        return _lora_names.setdefault(value, identity(value))
    except TypeError:  # not hashable or not weakly referenceable
        return identity(value)


def _is_filled(cell) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # not assigned yet
        return False
