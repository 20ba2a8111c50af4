"""The names that earlier versions gave a MODEL, CLIP and VAE; stores contain films under them. They must never change.

They depend on the weights in the dtype in which ComfyUI keeps them, under its own names, and on the class, options and
object patches of the MODEL. Under dynamic VRAM (0.12) ComfyUI casts the parameters of modules with children, such as
`modulation`, permanently at the first load: the same MODEL had one name before and another after.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...longlive_core.quant.layout import SCALE
from ...longlive_core.run.identity import Sample, identity

PREFIX = "diffusion_model."

# By module: those of its bare parameters that loading will cast, as they were when the module was first seen.
_firsts: WeakKeyDictionary[nn.Module, dict[str, Tensor]] = WeakKeyDictionary()


def remember(module: nn.Module) -> None:
    """Keep the parameters that loading will cast (a few numbers per block), to compute both names, before and after."""
    if module not in _firsts:
        _firsts[module] = {name: bare.detach().clone() for name, bare, dtype in _bare(module) if bare.dtype != dtype}


def model_names(model) -> list[str]:
    """Return a MODEL's earlier names, before and after its first load; none if its weights cannot be read."""
    options, module = model.model_options.get("transformer_options", {}), model.model.diffusion_model
    remember(module)
    kind = type(model.model).__name__
    names = [identity([weights, model.object_patches, _named(options), kind]) for weights in _states(model, module)]
    return list(dict.fromkeys(names))


def clip_names(clip) -> list[str]:
    weights = _patched(clip.patcher, "")
    return [] if weights is None else [identity([weights, getattr(clip, "layer_idx", None)])]


def vae_names(vae) -> list[str]:
    weights = _patched(vae.patcher, "")
    return [] if weights is None else [identity(weights)]


def _states(model, module: nn.Module) -> Iterator[list]:
    """Yield the weights as they are, as they were before the first load, and as they will be after it."""
    weights = _patched(model, PREFIX)
    if weights is not None:
        after = {f"{PREFIX}{name}": bare.to(dtype) for name, bare, dtype in _bare(module)}
        before = {f"{PREFIX}{name}": bare for name, bare in _firsts[module].items()}
        for known in ({}, before, after):
            yield [(name, known.get(name, weight), patches) for name, weight, patches in weights]


def _patched(patcher, prefix: str) -> list | None:
    """Return (name, weight as loaded, patches) of every weight; None if one has no content, as with GGUF."""
    found = []
    for name, weight in sorted(patcher.model.state_dict().items()):
        # The scales of an INT8 layer change with its patches, and are determined by the integers and the patches.
        if name.startswith(prefix) and not name.endswith(SCALE):
            original = patcher.backup.get(name)
            weight = weight if original is None else original.weight
            if weight.is_meta:
                return None
            # Read once for all names; for ComfyUI's quantised tensors, read the integers.
            found.append((name, Sample.of(getattr(weight, "_qdata", weight)), patcher.patches.get(name, ())))
    return found


def _named(options) -> list[str]:
    return sorted(f"{key} {getattr(value, '__qualname__', '')}" for key, value in options.items())


def _bare(module: nn.Module) -> Iterator[tuple[str, Tensor, torch.dtype]]:
    """Yield the own parameters of modules whose children have some too: name, parameter, dtype after loading."""
    for place, part in module.named_modules():
        own = dict(part.named_parameters(recurse=False))
        if own and any(name not in own for name, _ in part.named_parameters()):
            for name, bare in own.items():
                dtype = getattr(part, f"{name}_comfy_model_dtype", None) or bare.dtype
                yield f"{place}.{name}" if place else name, bare, dtype
