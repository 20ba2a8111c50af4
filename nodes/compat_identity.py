"""What a MODEL, a CLIP or a VAE is, as a short name: its weights as they were loaded, and what was done to them.

ComfyUI patches weights in place, moves them and takes the patches off again; the names do not follow any of that.
"""

from __future__ import annotations

from ..longlive_core.identity import identity
from ..longlive_core.quant.layout import SCALE
from ..longlive_core.takes import Vae

PREFIX = "diffusion_model."


def model_identity(model) -> str:
    """Of a MODEL: weights, LoRAs with their strengths, and whatever else nodes have hung on it, by name."""
    options = model.model_options.get("transformer_options", {})
    return identity([_patched(model, PREFIX), model.object_patches, _named(options), type(model.model).__name__])


def clip_identity(clip) -> str:
    return identity([_patched(clip.patcher, ""), getattr(clip, "layer_idx", None)])


def vae_identity(vae, width: int) -> Vae:
    return Vae(identity(_patched(vae.patcher, "")), str(vae.vae_dtype), width)


def _patched(patcher, prefix: str) -> list:
    """(name, weight as loaded, its patches) of every weight."""
    found = []
    for name, weight in sorted(patcher.model.state_dict().items()):
        # The scales of an INT8 layer change with its patches, and follow from the integers and these.
        if name.startswith(prefix) and not name.endswith(SCALE):
            original = patcher.backup.get(name)
            found.append((name, weight if original is None else original.weight, patcher.patches.get(name, ())))
    return found


def _named(options) -> list[str]:
    """Names of what hangs in a MODEL's options; the things themselves have no content to compare."""
    return sorted(f"{key} {getattr(value, '__qualname__', '')}" for key, value in options.items())
