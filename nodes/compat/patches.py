"""What users' nodes hang on a MODEL, a VAE or a CLIP, and what of it has an effect here.

The film is made by a causal forward of our own, which calls the model's layers one by one, and by no sampler of
ComfyUI's. So what changes a layer works, and what is hung on ComfyUI's sampler or around the model's own forward does
not; `forward` honours some of that all the same. Everything found is judged by one table, `RULES`; what it does
not know is named as having no effect.
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
OWN_FORWARD = "the film is made by a forward of this pack's own, which calls the layers inside"
OWN_WALK = "frames are made by a walk through the VAE, which calls the layers inside one by one"
FEW_STEPS = "it skips passes of long schedules, and the models here make do with 4"
PROMPTS = "which prompt holds when is Prompt Timeline's to say"
WINDOW = "the sampler's window and sink do this"

_LAYER = r"(q|k|v|o|norm_q|norm_k)"
_CALLED = (
    r"(patch_embedding|text_embedding|time_embedding|time_projection|head\.(norm|head)"
    rf"|blocks\.\*\.(norm[123]|ffn|(self|cross)_attn\.{_LAYER}))(\..+)?|(blocks\.\*|head)\.modulation"
)

RULES: tuple[tuple[str, str | None], ...] = (
    # What is found (kind, name, whose it is), and why it has no effect; None: it has. The first that matches counts.
    (rf"part diffusion_model\.({_CALLED})( |$)", None),
    (r"part diffusion_model\.blocks\.\*\.(self|cross)_attn\.comfy_attention", None),
    (r"part manual_cast_dtype", None),
    (r"part model_sampling", "this sampler has a schedule of its own: set its shift"),
    (r"WanVideoNAG", None),
    (r"part .*cross_attn\.forward .*(Relay|_Cross)", PROMPTS),
    (
        r"part .*(cross|self)_attn\.forward",
        f"{OWN_FORWARD}; prompts by time are Prompt Timeline's, attention kernels "
        "are ComfyUI's flags' (--use-sage-attention) or an attention override's",
    ),
    (r"part ", OWN_FORWARD),
    (r"attention override", None),
    (r"transformer option patches", f"{OWN_FORWARD} (skip-layer guidance, talking heads and the like)"),
    (r"transformer option rope_options", "the sampler's positions are its own: set positions"),
    (r"transformer option easycache", FEW_STEPS),
    (r"transformer option ", "it is handed to attention overrides, and read by nothing else here"),
    (r"option context_handler", WINDOW),
    (r"option (sampler_\w*cfg\w*|disable_cfg1_optimization|sampler_calc_cond_batch_function)", NO_CFG),
    (r"option model_function_wrapper", f"{OWN_FORWARD}; caches such as TeaCache have nothing to skip in 4 steps"),
    (r"option denoise_mask_function", "there is no denoise mask here"),
    (r"option ", "nothing here reads it"),
    (r"wrapper \w+ \S*(easy|lazy|tea)_?cache", FEW_STEPS),
    (r"wrapper \w+ \S*context", WINDOW),
    (r"wrapper ", OWN_FORWARD),
    (r"callback on_(prepare_state|apply_hooks|register_all_hook_patches)", "only ComfyUI's own samplers call it"),
    (r"callback ", None),
    (
        r"hooks of the MODEL",
        "only ComfyUI's own samplers apply them: use a LoRA loader; for another strength from some "
        "time on, go on with Branch Take and a second sampler",
    ),
    (
        r"hooks of the CLIP",
        "those for the model are applied by samplers that take CONDITIONING: put a LoRA loader "
        "before this node; those for the text encoder work",
    ),
    (r"schedule of the CLIP", "a prompt is encoded once a film, as the schedule begins"),
    (r"CLIP of the pocket model", "its text encoder has no such setting"),
    (r"CLIP: ", None),
    (r"VAE part ((de|en)coder|.*\.(middle|(up|down)samples)\.\*)(\.forward)?( |$)", OWN_WALK),
    (r"VAE part (conv[12]|(de|en)coder\.)", None),
    (r"VAE part ", OWN_WALK),
)


@dataclass
class Effects:
    """For people, a line each. honoured: what works. without: what has no effect, and why."""

    honoured: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)

    def merged(self, other: Effects) -> Effects:
        """With what the other one knows besides."""
        return Effects(
            *(list(dict.fromkeys(a + b)) for a, b in ((self.honoured, other.honoured), (self.without, other.without)))
        )


def effects(model, vae, clip) -> Effects:
    """What hangs on the three. ValueError for what would make another film than it should.

    Parts that are replaced when the MODEL is loaded are seen afterwards only; before, those that its nodes announce.
    """
    _check_parts(model)
    _check_vae(vae)
    found = Counter((*_on_model(model), *_on_vae(vae), *_on_clip(clip)))
    result = Effects(_honoured(model))
    for thing, count in found.items():
        reason = judge(thing)
        name = thing + (f" ({count} times)" if count > 1 else "")
        if reason is not None:
            result.without.append(f"{name}: {reason}")
        elif not thing.startswith("part manual_cast_dtype"):
            result.honoured.append(name)
    return result


def parts_with_effect(patcher, kind: str = "part") -> dict[str, Any]:
    """The replaced parts of a MODEL (or, of kind "VAE part", of a VAE's patcher) that a film follows from, by name."""
    return {
        name: value
        for name, value in patcher.object_patches.items()
        if original(value) is value
        and (as_guidance(value) is not None or judge(_told(kind, _every(name), value)) is None)
    }


def judge(thing: str) -> str | None:
    """Why a thing has no effect, or None where it has."""
    matching = (reason for pattern, reason in RULES if re.match(pattern, thing, re.IGNORECASE))
    return next(matching, "it is not known here")


def _honoured(model) -> list[str]:
    compiler = compiler_of(model)
    lines = [f"patched weights (LoRAs, merges): {len(model.patches)}"] if model.patches else []
    lines += [f"wrapped weights: {len(model.weight_wrapper_patches)}"] if model.weight_wrapper_patches else []
    return [*lines, *(f"injection {name}" for name in model.injections), *([compiler.name] if compiler else [])]


# --- what is there ---------------------------------------------------------------------------------------------------


def _on_model(model) -> Iterator[str]:
    replaced = {**_patched_forwards(model), **model.object_patches}
    for name, value in replaced.items():
        if as_guidance(value) is not None:
            yield "WanVideoNAG"
        elif original(value) is value:
            yield _told("part", _every(name), value)
    yield from _in_options(model.model_options)
    yield from _by_key("wrapper", model.wrappers)
    yield from _by_key("callback", model.callbacks)
    if model.hook_patches:
        yield "hooks of the MODEL (scheduled LoRA)"


def _in_options(options: dict) -> Iterator[str]:
    for name, value in options.items():
        if name not in ("transformer_options", COMPILE_OPTIONS):
            for each in value if isinstance(value, list) else [value]:
                yield _told("option", name, each)
    for name, value in options.get("transformer_options", {}).items():
        if name == "optimized_attention_override":
            yield _told("attention override", "", value)
        elif name in ("wrappers", "callbacks"):
            yield from _by_key(name.removesuffix("s"), value)
        elif name in ("patches", "patches_replace"):
            yield from (
                _told("transformer option", f"{name} {place}", each)
                for place, held in value.items()
                for each in (held.values() if isinstance(held, dict) else held)
            )
        else:
            yield _told("transformer option", name, None)


def _by_key(kind: str, held: dict) -> Iterator[str]:
    """held: functions by what they hang on and by a key."""
    for place, by_key in held.items():
        for key, functions in by_key.items():
            if key != COMPILE_KEY:
                yield from (_told(kind, place if key is None else f"{place} {key}", each) for each in functions)


def _on_vae(vae) -> Iterator[str]:
    for name, value in vae.patcher.object_patches.items():
        yield _told("VAE part", _every(name), value)
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


def _told(kind: str, name: str, value: Any) -> str:
    """For people and for RULES: what it is, its name, and the node or class that it comes from."""
    whose = getattr(value, "__qualname__", "") or ("" if _is_plain(value) else type(value).__name__)
    return " ".join(part for part in (kind, str(name), whose.split(".")[0]) if part)


def _every(name: str) -> str:
    """One name for the same part of every block."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", name)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, dict, list, tuple))


# --- parts that are not what they were -------------------------------------------------------------------------------


def _containers(model) -> Iterator[tuple[str, nn.Module]]:
    """The modules whose own forward is not called here, by name."""
    module = original(model.model.diffusion_model)
    yield "diffusion_model", module
    yield f"{PREFIX}head", module.head
    for layer, block in enumerate(module.blocks):
        block, name = original(block), f"{PREFIX}blocks.{layer}"
        yield from ((name, block), (f"{name}.self_attn", block.self_attn), (f"{name}.cross_attn", block.cross_attn))


def _patched_forwards(model) -> dict[str, Any]:
    """Forwards that were put on a module itself and are not called here, by name. Loading a MODEL puts some there."""
    found = {}
    for name, module in _containers(model):
        for method in ("forward", "_forward", "forward_orig"):
            patch = vars(module).get(method)
            # Taking a patch off leaves the module's own method there.
            if patch is not None and getattr(patch, "__func__", patch) is not getattr(type(module), method, None):
                found[f"{name}.{method}"] = patch
    return found


def _check_parts(model) -> None:
    """Raise ValueError where a module whose forward is not called here is replaced as a whole."""
    names = {name for name, _ in _containers(model)}
    for name, value in model.object_patches.items():
        if name in names and original(value) is value:
            raise ValueError(
                f"the MODEL's {name} was replaced by a {type(value).__name__}, which the Stream Sampler "
                "cannot drive: it calls the layers inside; remove the node that does this"
            )


def _check_vae(vae) -> None:
    """Raise ValueError where what holds convolutions over time was replaced by something that knows no past."""
    parts = dict(vae.first_stage_model.named_modules())
    for name, value in vae.patcher.object_patches.items():
        before = parts.get(name)
        if isinstance(before, nn.Conv3d):
            fits = isinstance(value, nn.Conv3d)  # a compiled one is no longer one
        else:
            fits = original(value) is not value or not _over_time(before)
        if not fits:
            raise ValueError(
                f"the VAE's {name} was replaced by a {type(value).__name__}, which does not say how it "
                "continues a film: remove the node that does this"
            )


def _over_time(part: Any) -> bool:
    return isinstance(part, nn.Module) and any(isinstance(layer, nn.Conv3d) for layer in part.modules())
