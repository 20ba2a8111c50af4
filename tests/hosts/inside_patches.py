"""Runs inside a real ComfyUI's modules, in a process of its own, and prints as JSON what is true: see test_patches.py.

    python inside_patches.py PATH_OF_COMFYUI PATH_OF_THE_PACK

ComfyUI's own nodes patch a small random MODEL; the patches of other packs (KJNodes, prompt relays) are imitated.
"""

import importlib
import json
import sys
import types

from start_inside import import_pack, start_comfyui

COMFYUI, PACK = sys.argv[1:3]
start_comfyui(COMFYUI, PACK)
import comfy.context_windows  # noqa: E402
import comfy.hooks  # noqa: E402
import comfy.ldm.modules.attention as comfy_attention  # noqa: E402
import comfy.ldm.wan.model as comfy_wan  # noqa: E402
import comfy.model_management as management  # noqa: E402
import comfy.sd  # noqa: E402
import stand_in_packs  # noqa: E402
import torch  # noqa: E402
from comfy.patcher_extension import CallbacksMP, WrappersMP  # noqa: E402
from comfy_api.torch_helpers import set_torch_compile_wrapper  # noqa: E402

import_pack(PACK)
from pack.longlive_core.checkpoints.built_in import VAE_FILE, weights_folder  # noqa: E402
from pack.longlive_core.config import ModelConfig, StreamConfig  # noqa: E402
from pack.longlive_core.engine.noise import AddressedNoise  # noqa: E402
from pack.longlive_core.engine.rollout import rollout  # noqa: E402
from pack.longlive_core.engine.shot import PromptSpan  # noqa: E402
from pack.longlive_core.model import WanModel  # noqa: E402
from pack.nodes import compat, pocket_clip  # noqa: E402

CONFIG = ModelConfig(dim=256, ffn_dim=256, num_heads=2, num_layers=2)
LAYERS = range(CONFIG.num_layers)
WEIGHTS = "diffusion_model.blocks.{}.{}"
SOURCE = {name: tensor.detach() for name, tensor in WanModel(CONFIG).state_dict().items()}
torch.set_num_threads(1)
torch.manual_seed(0)
for value in SOURCE.values():
    value.copy_(torch.randn(value.shape) * 0.05)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def plain_model():
    return compat.model_of_weights(dict(SOURCE), torch.float32)


MODEL, CLIP = plain_model(), pocket_clip.load_pocket_clip()
VAE = compat.load_vae(str(weights_folder() / VAE_FILE), "fp32")


def film(model) -> torch.Tensor:
    """Latents of three chunks with a change of prompt, through what the sampler's node uses."""
    management.load_models_gpu([model], memory_required=0)
    spans = [PromptSpan(0, random(1, 7, 4096)), PromptSpan(2, random(1, 7, 4096, seed=1))]
    stream = StreamConfig(denoising_steps=(1000, 500))
    with torch.inference_mode(), compat.forward.sampling(model):
        made = rollout(compat.causal_model(model), spans, 3, (4, 4), stream, AddressedNoise(0))
        return torch.cat([chunk.latents for chunk in made], 2)


def loaded_effects(model, vae=VAE, clip=CLIP):
    management.load_models_gpu([model], memory_required=0)
    return compat.patches.effects(model, vae, clip)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


PLAIN = film(MODEL)

# --- compiled --------------------------------------------------------------------------------------------------------

graphs = []


def counting(graph, inputs):
    graphs.append(graph)
    return graph.forward


def failing(graph, inputs):
    raise ValueError("no kernel for this card")


def compiled_parts(backend):
    """As packs did before ComfyUI had a wrapper for it."""
    model = MODEL.clone()
    for layer, block in enumerate(model.model.diffusion_model.blocks):
        model.add_object_patch(f"diffusion_model.blocks.{layer}", torch.compile(block, backend=backend))
    return model


def wrapped(model, keys=None, **options):
    model = model.clone()
    set_torch_compile_wrapper(model, keys=keys, **options)
    return model


def compiled() -> dict:
    ways = {
        "whole": wrapped(MODEL, backend=counting),
        "blocks": wrapped(
            MODEL,
            [f"diffusion_model.blocks.{layer}" for layer in LAYERS],
            backend=counting,
            fullgraph=True,
            dynamic=False,
        ),
        "parts": compiled_parts(counting),
        "lora": wrapped(with_lora(MODEL), backend=counting),
        "int8": wrapped(compat.quantise_model(MODEL)[0], backend=counting),
        "eager backend": wrapped(MODEL, backend="aot_eager"),
    }
    expected = {"lora": film(with_lora(MODEL)), "int8": film(compat.quantise_model(MODEL)[0])}
    facts = {}
    for name, model in ways.items():
        torch.compiler.reset()
        graphs.clear()
        difference = apart(film(model), expected.get(name, PLAIN))
        found = loaded_effects(model)
        facts[name] = {"graphs": len(graphs), "apart": difference, "without": found.without, "honoured": found.honoured}
    torch.compiler.reset()
    try:
        film(wrapped(MODEL, backend=failing))
    except RuntimeError as error:
        facts["failing"] = str(error)
    return {**facts, "uncompiled again": apart(film(MODEL), PLAIN)}


# --- LoRA ------------------------------------------------------------------------------------------------------------


def low_rank(layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    return random(4, CONFIG.dim, seed=layer), random(CONFIG.dim, 4, seed=10 + layer)


def lora_tensors() -> dict[str, torch.Tensor]:
    tensors = {}
    for layer in LAYERS:
        name, (down, up) = WEIGHTS.format(layer, "self_attn.o"), low_rank(layer)
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return tensors


def with_lora(model):
    return comfy.sd.load_lora_for_models(model, None, lora_tensors(), 1.0, 0.0)[0]


def injected(model):
    """A LoRA in bypass mode: by ComfyUI itself if it has that (0.27), else by a stand-in."""
    if hasattr(comfy.sd, "load_bypass_lora_for_models"):
        return comfy.sd.load_bypass_lora_for_models(model, None, lora_tensors(), 1.0, 0.0)[0]
    return stand_in_packs.bypass_lora(model, low_rank)


def loras() -> dict:
    with_weights = film(with_lora(MODEL))
    scheduled = MODEL.clone()
    group = comfy.hooks.create_hook_lora(lora_tensors(), 1.0, 0.0)
    scheduled.register_all_hook_patches(group, comfy.hooks.create_target_dict(comfy.hooks.EnumWeightTarget.Model))
    return {
        "changes": apart(with_weights, PLAIN),
        "bypass": apart(film(injected(MODEL)), with_weights),
        "bypass honoured": loaded_effects(injected(MODEL)).honoured,
        "lora honoured": loaded_effects(with_lora(MODEL)).honoured,
        "after": apart(film(MODEL), PLAIN),
        "scheduled": apart(film(scheduled), PLAIN),
        "scheduled without": loaded_effects(scheduled).without,
    }


# --- attention -------------------------------------------------------------------------------------------------------


def attention() -> dict:
    seen = []

    class PathchSageAttentionKJ:
        def patch(self, model):
            model = model.clone()

            def attention_override_sage(func, *args, **kwargs):
                options = kwargs["transformer_options"]
                seen.append((options["block_index"], options["total_blocks"], kwargs["heads"], args[0].ndim))
                return func(*args, **kwargs) * 0.5

            model.model_options["transformer_options"]["optimized_attention_override"] = attention_override_sage
            return model

    def halved(*args, **kwargs):
        return ordinary(*args, **kwargs) * 0.5

    ordinary = comfy_attention.optimized_attention
    model = PathchSageAttentionKJ().patch(MODEL)
    overridden = film(model)
    run_time = MODEL.clone()  # as packs that patch ComfyUI's module around a run
    run_time.add_callback(CallbacksMP.ON_PRE_RUN, lambda _: setattr(comfy_wan, "optimized_attention", halved))
    run_time.add_callback(CallbacksMP.ON_CLEANUP, lambda _: setattr(comfy_wan, "optimized_attention", ordinary))
    patched = film(run_time)
    return {
        "seen": sorted(set(seen)),
        "changes": apart(overridden, PLAIN),
        "same": apart(patched, overridden),
        "restored": comfy_wan.optimized_attention is ordinary,
        "honoured": loaded_effects(model).honoured + loaded_effects(run_time).honoured,
        "without": loaded_effects(model).without + loaded_effects(run_time).without,
        "preferred": preferred(),
    }


def preferred() -> list:
    """As from 0.40 on: an attention module may prefer an implementation, which is passed with each call."""
    given = []

    def newer(q, k, v, heads, preferred_attention=None, **options):
        given.append(preferred_attention)
        return ordinary(q, k, v, heads, **options)

    ordinary, comfy_wan.optimized_attention = comfy_wan.optimized_attention, newer
    first = MODEL.model.diffusion_model.blocks[0]
    first.self_attn.comfy_attention, first.cross_attn.comfy_attention = "self", None
    try:
        assert apart(film(MODEL), PLAIN) == 0
    finally:
        comfy_wan.optimized_attention = ordinary
        del first.self_attn.comfy_attention, first.cross_attn.comfy_attention
    return sorted({str(each) for each in given})


# --- guidance and relays ---------------------------------------------------------------------------------------------


def forwards(patch, part="cross_attn"):
    model = MODEL.clone()
    for layer, block in enumerate(model.model.diffusion_model.blocks):
        attn = getattr(block, part)
        model.add_object_patch(f"diffusion_model.blocks.{layer}.{part}.forward", patch.__get__(attn, type(attn)))
    return model


def guided() -> dict:
    unwanted = MODEL.model.diffusion_model.text_embedding(random(1, 5, 4096, seed=2)).detach()
    facts = {}
    for name, settings in (("strong", (11.0, 0.25, 2.5)), ("limited", (6.0, 0.7, 1.01)), ("none", (1.0, 1.0, 9.0))):
        model = forwards(stand_in_packs.WanCrossAttentionPatch(unwanted, *settings))
        management.load_models_gpu([model], memory_required=0)
        causal, block = compat.causal_model(model), model.model.diffusion_model.blocks[1]
        with torch.inference_mode():
            context, x = random(1, 7, 4096), random(1, 12, CONFIG.dim, seed=3)
            keys = causal.prompt_keys(context)[1]
            q = causal._heads(block.cross_attn.norm_q(block.cross_attn.q(x)))
            ours = block.cross_attn.o(causal._cross_attention(1, block, q, keys).flatten(2))
            theirs = block.cross_attn(x, context=causal.module.text_embedding(context))
        found = loaded_effects(model)
        facts[name] = {
            "apart": apart(ours, theirs),
            "film": apart(film(model), PLAIN),
            "honoured": found.honoured,
            "without": found.without,
        }
    relay = forwards(stand_in_packs._CrossAttnPatch())
    facts["relay"] = {"film": apart(film(relay), PLAIN), "without": loaded_effects(relay).without}
    other = forwards(stand_in_packs._CrossAttnPatch(), "self_attn")
    facts["self"] = {"film": apart(film(other), PLAIN), "without": loaded_effects(other).without}
    facts["parts"] = {
        "guided": sorted(compat.patches.parts_with_effect(model)),
        "relay": sorted(compat.patches.parts_with_effect(relay)),
        "compiled": sorted(compat.patches.parts_with_effect(compiled_parts("eager"))),
    }
    facts["gone"] = loaded_effects(MODEL).without
    block = MODEL.model.diffusion_model.blocks[0]
    block.forward = types.MethodType(lambda self, *given: None, block)  # on the spot, by no patcher
    facts["on the spot"] = loaded_effects(MODEL).without
    del block.forward
    return facts


# --- ComfyUI's own nodes ---------------------------------------------------------------------------------------------


def node(module: str, name: str, *given, **named):
    made = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
    if hasattr(made, "execute"):
        return made.execute(*given, **named).result[0]
    made = made()
    return getattr(made, made.FUNCTION)(*given, **named)[0]


def context_windows(model):
    model = model.clone()
    model.model_options["context_handler"] = object()
    comfy.context_windows.create_prepare_sampling_wrapper(model)
    return model


def wrapping(model):
    model = model.clone()
    model.set_model_unet_function_wrapper(lambda apply, given: None)
    model.set_model_patch(lambda given: None, "attn1_patch")
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "my_pack", lambda *given: None)
    model.add_callback(CallbacksMP.ON_PREPARE_STATE, lambda *given: None)
    model.model_options["transformer_options"]["my_weight"] = 0.3
    model.model_options["my_option"] = 1
    model.add_object_patch("latent_format", model.model.latent_format)
    return model


def without_effect() -> dict:
    given = {
        "shift": node("nodes_model_advanced", "ModelSamplingSD3", MODEL, 3.0),
        "cfg": node("nodes_model_advanced", "RescaleCFG", MODEL, 0.7),
        "cfg zero": node("nodes_cfg", "CFGZeroStar", MODEL),
        "skipped layers": node("nodes_slg", "SkipLayerGuidanceDiT", MODEL, 3.0, 0.0, 1.0, "0", "0"),
        "easy cache": node("nodes_easycache", "EasyCacheNode", MODEL, 0.2, 0.1, 0.9, False),
        "lazy cache": node("nodes_easycache", "LazyCacheNode", MODEL, 0.2, 0.1, 0.9, False),
        "rotary": node("nodes_rope", "ScaleROPE", MODEL, 1.0, 0.0, 1.0, 0.0, 2.0, 1.0),
        "context windows": context_windows(MODEL),
        "wrapping": wrapping(MODEL),
    }
    return {
        name: {"apart": apart(film(model), PLAIN), "without": loaded_effects(model).without}
        for name, model in given.items()
    }


def on_clip_and_vae() -> dict:
    hooks = comfy.hooks.create_hook_lora(lora_tensors(), 1.0, 0.0)
    hooked = node("nodes_hooks", "SetClipHooks", CLIP, True, True, hooks)
    last = CLIP.clone()
    last.clip_layer(-2)
    vae = compat.load_vae(str(weights_folder() / VAE_FILE), "fp32")
    vae.first_stage_model.decoder = torch.compile(vae.first_stage_model.decoder, backend="eager")
    compat.streaming_decoder(vae)
    return {
        "hooks": compat.patches.effects(MODEL, VAE, hooked).without,
        "last": compat.patches.effects(MODEL, VAE, last).without,
        "plain": compat.patches.effects(MODEL, VAE, CLIP).without,
        "vae": compat.patches.effects(MODEL, vae, CLIP).without,
    }


def refused() -> dict:
    block = MODEL.clone()
    block.add_object_patch("diffusion_model.blocks.1", torch.nn.Linear(2, 2))
    layer = MODEL.clone()
    layer.add_object_patch("diffusion_model.blocks.1.ffn.0", torch.nn.Linear(CONFIG.dim, CONFIG.ffn_dim))
    vae = compat.load_vae(str(weights_folder() / VAE_FILE), "fp32")
    names = ("decoder.conv1", "decoder.middle.0", "decoder.head.0")
    facts = {"layer": compat.patches.effects(layer, VAE, CLIP).without}
    for name in names:
        vae.patcher.object_patches = {name: torch.nn.Identity()}
        facts[name] = reason(lambda: compat.patches.effects(MODEL, vae, CLIP))
    vae.patcher.object_patches = {"decoder.middle.0.forward": print, "decoder.head.0": torch.nn.Identity()}
    facts["vae without"] = loaded_effects(MODEL, vae).without
    facts["block"] = reason(lambda: compat.patches.effects(block, VAE, CLIP))
    prefers = MODEL.clone()
    prefers.add_object_patch("diffusion_model.blocks.0.self_attn.comfy_attention", "sage")
    facts["quantised"] = list(compat.quantise_model(prefers)[0].object_patches)
    facts["quantised compiled"] = reason(lambda: compat.quantise_model(compiled_parts("eager")))
    facts["prefers"] = compat.patches.effects(prefers, VAE, CLIP).without
    facts["none"] = reason(lambda: compat.refuse_missing(MODEL=MODEL, VAE=None, CLIP=None))
    return facts


def reason(function) -> str | None:
    try:
        function()
    except ValueError as error:
        return str(error)
    return None


print(
    json.dumps(
        {
            "compiled": compiled(),
            "loras": loras(),
            "attention": attention(),
            "guided": guided(),
            "without": without_effect(),
            "clip and vae": on_clip_and_vae(),
            "refused": refused(),
        }
    )
)
