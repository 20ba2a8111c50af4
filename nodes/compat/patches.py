"""Find the patches that other nodes put on a MODEL, VAE or CLIP, and decide which have an effect here.

The film is rendered by our own causal forward, which calls the model's layers one by one, not by a sampler of
ComfyUI's. So a patch of a layer works; a patch of ComfyUI's sampler or around the model's own forward does not,
although `forward` supports some of them. One table, `RULES`, decides; patches that it does not know are reported as
having no effect.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .forward import COMPILE_KEY, COMPILE_OPTIONS, as_guidance, compiler_of, original

PREFIX = "diffusion_model."

NO_CFG = "there is no CFG here, guidance was distilled into the model; a negative prompt works through WanVideoNAG"
OWN_FORWARD = "this pack renders with its own forward, which calls the layers inside"
OWN_DECODER = "this pack decodes with its own forward, which calls the VAE's layers one by one"
FEW_STEPS = "it skips steps of long schedules, and the models here need only 4"
PROMPTS = "Prompt Timeline decides when each prompt is in force"
WINDOW = "the sampler's window and sink do this"

_LAYER = r"(q|k|v|o|norm_q|norm_k)"
_CALLED = (
    r"(patch_embedding|text_embedding|time_embedding|time_projection|head\.(norm|head)"
    rf"|blocks\.\*\.(norm[123]|ffn|(self|cross)_attn\.{_LAYER}))(\..+)?|(blocks\.\*|head)\.modulation"
)

RULES: tuple[tuple[str, str | None], ...] = (
    # (pattern of a patch's label, why the patch has no effect; None: it has one). The first match counts.
    (rf"part diffusion_model\.({_CALLED})( |$)", None),
    (r"part diffusion_model\.blocks\.\*\.(self|cross)_attn\.comfy_attention", None),
    (r"part manual_cast_dtype", None),
    (r"part model_sampling", "Stream Sampler has its own schedule: set its shift"),
    (r"WanVideoNAG", None),
    (r"part .*cross_attn\.forward .*(Relay|_Cross)", PROMPTS),
    (
        r"part .*(cross|self)_attn\.forward",
        f"{OWN_FORWARD}; use Prompt Timeline for prompts over time, and ComfyUI's flags (--use-sage-attention) or an "
        "attention override for attention kernels",
    ),
    (r"part ", OWN_FORWARD),
    (r"attention override", None),
    (r"transformer option patches", f"{OWN_FORWARD} (skip-layer guidance, talking heads and the like)"),
    (r"transformer option rope_options", "Stream Sampler has its own positions: set positions"),
    (r"transformer option easycache", FEW_STEPS),
    (r"transformer option ", "it is passed to attention overrides only"),
    (r"option context_handler", WINDOW),
    (r"option (sampler_\w*cfg\w*|disable_cfg1_optimization|sampler_calc_cond_batch_function)", NO_CFG),
    (r"option model_function_wrapper", f"{OWN_FORWARD}; caches such as TeaCache have nothing to skip in 4 steps"),
    (r"option denoise_mask_function", "Stream Sampler has no denoise mask"),
    (r"option ", "it is not used here"),
    (r"wrapper \w+ \S*(easy|lazy|tea)_?cache", FEW_STEPS),
    (r"wrapper \w+ \S*context", WINDOW),
    (r"wrapper ", OWN_FORWARD),
    (r"callback on_(prepare_state|apply_hooks|register_all_hook_patches)", "only ComfyUI's own samplers call it"),
    (r"callback ", None),
    (
        r"hooks of the MODEL",
        "only ComfyUI's own samplers apply them: use a LoRA loader; for another strength from some "
        "time on, continue with Branch Take and a second sampler",
    ),
    (
        r"hooks of the CLIP",
        "hooks for the model are applied only by samplers that take CONDITIONING: put a LoRA loader "
        "before this node; hooks for the text encoder work",
    ),
    (r"schedule of the CLIP", "each prompt is encoded once per film, as at the schedule's beginning"),
    (r"CLIP of the pocket model", "its text encoder has no such setting"),
    (r"CLIP: ", None),
    (r"VAE part ((de|en)coder|.*\.(middle|(up|down)samples)\.\*)(\.forward)?( |$)", OWN_DECODER),
    (r"VAE part (conv[12]|(de|en)coder\.)", None),
    (r"VAE part ", OWN_DECODER),
)


@dataclass
class Effects:
    """Reports, a line each. honoured: patches that work. without: patches without effect, and why."""

    honoured: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)

    def merged(self, other: Effects) -> Effects:
        """Return both together, without repeats."""
        return Effects(
            *(list(dict.fromkeys(a + b)) for a, b in ((self.honoured, other.honoured), (self.without, other.without)))
        )


def effects(model, vae, clip) -> Effects:
    """Return the patches of all three. Raises ValueError for a patch that would make the film wrong.

    Parts that are replaced when the MODEL is loaded are found only afterwards; before, those that its nodes announce.
    """
    _check_parts(model)
    _check_vae(vae)
    found = Counter((*_on_model(model), *_on_vae(vae), *_on_clip(clip)))
    result = Effects(_honoured(model))
    for label, count in found.items():
        reason = reason_without_effect(label)
        name = label + (f" ({count} times)" if count > 1 else "")
        if reason is not None:
            result.without.append(f"{name}: {reason}")
        elif not label.startswith("part manual_cast_dtype"):
            result.honoured.append(name)
    return result


def parts_with_effect(patcher, kind: str = "part") -> dict[str, Any]:
    """Return, by name, the replaced parts of a MODEL (or a VAE's patcher: kind "VAE part") that change a film."""
    return {
        name: value
        for name, value in patcher.object_patches.items()
        if original(value) is value
        and (as_guidance(value) is not None or reason_without_effect(_label(kind, _every(name), value)) is None)
    }


def reason_without_effect(label: str) -> str | None:
    """Return why a patch with this label has no effect; None if it has one."""
    matching = (reason for pattern, reason in RULES if re.match(pattern, label, re.IGNORECASE))
    return next(matching, "this pack does not know it")


def _honoured(model) -> list[str]:
    compiler = compiler_of(model)
    lines = [f"patched weights (LoRAs, merges): {len(model.patches)}"] if model.patches else []
    lines += [f"wrapped weights: {len(model.weight_wrapper_patches)}"] if model.weight_wrapper_patches else []
    return [*lines, *(f"injection {name}" for name in model.injections), *([compiler.name] if compiler else [])]


# --- finding patches -------------------------------------------------------------------------------------------------


def _on_model(model) -> Iterator[str]:
    replaced = {**_patched_forwards(model), **model.object_patches}
    for name, value in replaced.items():
        if as_guidance(value) is not None:
            yield "WanVideoNAG"
        elif original(value) is value:
            yield _label("part", _every(name), value)
    yield from _in_options(model.model_options)
    yield from _by_key("wrapper", model.wrappers)
    yield from _by_key("callback", model.callbacks)
    if model.hook_patches:
        yield "hooks of the MODEL (scheduled LoRA)"


def _in_options(options: dict) -> Iterator[str]:
    for name, value in options.items():
        if name not in ("transformer_options", COMPILE_OPTIONS):
            for each in value if isinstance(value, list) else [value]:
                yield _label("option", name, each)
    for name, value in options.get("transformer_options", {}).items():
        if name == "optimized_attention_override":
            yield _label("attention override", "", value)
        elif name in ("wrappers", "callbacks"):
            yield from _by_key(name.removesuffix("s"), value)
        elif name in ("patches", "patches_replace"):
            yield from (
                _label("transformer option", f"{name} {place}", each)
                for place, held in value.items()
                for each in (held.values() if isinstance(held, dict) else held)
            )
        else:
            yield _label("transformer option", name, None)


def _by_key(kind: str, held: dict) -> Iterator[str]:
    """Yield the labels of functions. held: functions by place and by key."""
    for place, by_key in held.items():
        for key, functions in by_key.items():
            if key != COMPILE_KEY:
                yield from (_label(kind, place if key is None else f"{place} {key}", each) for each in functions)


def _on_vae(vae) -> Iterator[str]:
    for name, value in vae.patcher.object_patches.items():
        yield _label("VAE part", _every(name), value)
    for name, part in vae.first_stage_model.named_children():
        if original(part) is not part:
            yield f"VAE part {name} torch.compile"


def _on_clip(clip) -> Iterator[str]:
    if getattr(clip, "apply_hooks_to_conds", None):
        yield "hooks of the CLIP"
    if getattr(clip, "use_clip_schedule", False):
        yield "schedule of the CLIP"
    settings = (
        ("skipped layers", getattr(clip, "layer_idx", None) is not None),
        ("tokenizer options", bool(getattr(clip, "tokenizer_options", None))),
    )
    fixed = getattr(getattr(clip, "cond_stage_model", None), "longlive_fixed", False)
    for name, is_set in settings:
        if is_set:
            yield f"CLIP of the pocket model: {name}" if fixed else f"CLIP: {name}"


def _label(kind: str, name: str, value: Any) -> str:
    """Return a patch's label, for reports and for RULES: its kind, its name, and the function or class it comes
    from."""
    owner = getattr(value, "__qualname__", "") or ("" if _is_plain(value) else type(value).__name__)
    return " ".join(part for part in (kind, str(name), owner.split(".")[0]) if part)


def _every(name: str) -> str:
    """Return one name for the same part of every block."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, dict, list, tuple))


# --- replaced parts --------------------------------------------------------------------------------------------------


def _containers(model) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules whose own forward we do not call, by name."""
    module = original(model.model.diffusion_model)
    yield "diffusion_model", module
    yield f"{PREFIX}head", module.head
    for layer, block in enumerate(module.blocks):
        block, name = original(block), f"{PREFIX}blocks.{layer}"
        yield from ((name, block), (f"{name}.self_attn", block.self_attn), (f"{name}.cross_attn", block.cross_attn))


def _patched_forwards(model) -> dict[str, Any]:
    """Return forwards set on a module itself that we do not call, by name. Loading a MODEL sets some."""
    found = {}
    for name, module in _containers(model):
        for method in ("forward", "_forward", "forward_orig"):
            patch = vars(module).get(method)
            # Removing a patch leaves the module's own method there.
            if patch is not None and getattr(patch, "__func__", patch) is not getattr(type(module), method, None):
                found[f"{name}.{method}"] = patch
    return found


def _check_parts(model) -> None:
    """Raise ValueError if a module whose forward we do not call is replaced as a whole."""
    names = {name for name, _ in _containers(model)}
    for name, value in model.object_patches.items():
        if name in names and original(value) is value:
            raise ValueError(
                f"the MODEL's {name} was replaced by a {type(value).__name__}, which the Stream Sampler "
                "cannot use: it calls the layers inside; remove the node that does this"
            )


def _check_vae(vae) -> None:
    """Raise ValueError if a module with convolutions over time was replaced by one without a memory of past frames."""
    parts = dict(vae.first_stage_model.named_modules())
    for name, value in vae.patcher.object_patches.items():
        before = parts.get(name)
        if isinstance(before, nn.Conv3d):
            fits = isinstance(value, nn.Conv3d)  # a compiled one is not an instance
        else:
            fits = original(value) is not value or not _over_time(before)
        if not fits:
            raise ValueError(
                f"the VAE's {name} was replaced by a {type(value).__name__}, which cannot "
                "continue a film chunk by chunk: remove the node that does this"
            )


def _over_time(part: Any) -> bool:
    return isinstance(part, nn.Module) and any(isinstance(layer, nn.Conv3d) for layer in part.modules())
