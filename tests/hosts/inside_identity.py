"""Names of models inside ComfyUI's own modules, in a process of its own: prints facts for test_real_identity.py.

python inside_identity.py PATH_OF_COMFYUI PATH_OF_THE_PACK [PATH_OF_COMFYUI_GGUF]
"""

import inspect
import json
import sys
import tempfile
import types
from pathlib import Path

from start_inside import import_pack, start_comfyui

COMFYUI, PACK, *GGUF = sys.argv[1:]


start_comfyui(COMFYUI, PACK)
import comfy.model_management as management  # noqa: E402
import comfy.model_patcher as patching  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.sd1_clip as sd1_clip  # noqa: E402
import comfy.text_encoders.t5  # noqa: E402
import torch  # noqa: E402
from gguf_weights import gguf_layers, gguf_model, gguf_tensor  # noqa: E402

import_pack(PACK)
from pack.longlive_core.checkpoints import build_model, load_lora, load_vae, merge_lora  # noqa: E402
from pack.longlive_core.checkpoints.tensor_files import write_safetensors  # noqa: E402
from pack.longlive_core.checkpoints.text_encoder import TextEncoder, build_encoder  # noqa: E402
from pack.longlive_core.config import ModelConfig, StreamConfig  # noqa: E402
from pack.longlive_core.model import WanModel  # noqa: E402
from pack.longlive_core.quant import canonical, is_block_linear, quantise_state_dict  # noqa: E402
from pack.longlive_core.run.identity import text_identity, weights_identity  # noqa: E402
from pack.longlive_core.vae import WanVAE  # noqa: E402
from pack.nodes import compat  # noqa: E402
from pack.nodes.compat.identity import clip_identity, film_origin, model_identity, vae_identity  # noqa: E402
from pack.nodes.pocket_clip import load_pocket_clip  # noqa: E402

torch.set_num_threads(1)
CONFIG = ModelConfig(dim=256, ffn_dim=256, num_heads=2, num_layers=2)
CPU, BF16, FP16, FP32 = torch.device("cpu"), torch.bfloat16, torch.float16, torch.float32
DTYPES = {"bf16": BF16, "fp16": FP16, "fp32": FP32}
FOLDER = Path(tempfile.mkdtemp())
T5 = {
    "d_ff": 64,
    "d_kv": 8,
    "d_model": 32,
    "num_heads": 4,
    "num_layers": 2,
    "vocab_size": 120,
    "model_type": "umt5",
    "dense_act_fn": "gelu_pytorch_tanh",
    "is_gated_act": True,
    "tie_word_embeddings": False,
}


def numbers(*shape: int) -> torch.Tensor:
    """The same everywhere: no random numbers, no rounding but the last."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 7919 % 1009).float() / 1009 - 0.5).reshape(shape)


def weights(dtype=FP32) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        expected = WanModel(CONFIG).state_dict()
    return {name: numbers(*tensor.shape).to(dtype) for name, tensor in expected.items()}


def vae_weights() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        expected = WanVAE(dim=8).state_dict()
    return {name: numbers(*tensor.shape) for name, tensor in expected.items()}


def saved(name: str, tensors: dict[str, torch.Tensor]) -> str:
    return str(write_safetensors(FOLDER / f"{name}.safetensors", tensors, {}))


def file(name: str) -> str:
    return saved(name, weights(DTYPES[name]))


def named(model) -> str:
    return model_identity(model, compat.causal_model(model).dtype)


def of_core(tensors: dict[str, torch.Tensor], dtype) -> str:
    """What the command line calls these weights."""
    return weights_identity(build_model(tensors, "cpu", dtype), dtype)


def lora() -> str:
    """As ComfyUI's loaders and our own take it."""
    tensors = {}
    for layer in ("blocks.0.self_attn.q", "blocks.1.ffn.0", "text_embedding.2"):
        rows, columns = weights()[f"{layer}.weight"].shape
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = numbers(4, columns)
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = numbers(rows, 4)
    return saved("lora", tensors)


def with_lora(model, strength: float = 1.0):
    tensors = comfy.utils.load_torch_file(lora())
    return comfy.sd.load_lora_for_models(model, None, tensors, strength, 0.0)[0]


def while_loaded(model) -> list[str]:
    """Its names before, loaded whole, in part, unloaded in part, and after."""
    names = [named(model)]
    for memory, unload in ((0, 0), (1_000_000, 0), (0, 2_000_000)):
        model.patch_model(CPU, lowvram_model_memory=memory)
        if unload:
            model.partially_unload(CPU, unload)
        names.append(afresh(model))
        model.detach()
    return [*names, afresh(model)]


def afresh(model) -> str:
    """Named as if it had not been before."""
    sys.modules["pack.nodes.compat.identity"]._names.clear()
    return named(model)


def one(names: list[str]) -> bool:
    return len(set(names)) == 1


# --- facts -----------------------------------------------------------------------------------------------------------


def core_facts() -> dict:
    """Return the command line's name, for any dtype of file and run."""
    facts = {}
    for kept in DTYPES:
        for dtype in DTYPES:
            model = compat.load_model(file(kept), None, dtype)
            computes = compat.causal_model(model).dtype
            loaded = {each: tensor.to(DTYPES[dtype]) for each, tensor in weights(DTYPES[kept]).items()}
            if computes is FP32:  # ComfyUI rounds all but this one
                loaded |= {n: t for n, t in weights(DTYPES[kept]).items() if n.startswith("patch_embedding.")}
            facts[f"{kept} file loaded in {dtype}"] = named(model) == of_core(loaded, computes)
    facts["differs by rounding"] = named(compat.load_model(file("fp32"), None, "fp32")) != of_core(weights(BF16), FP32)
    return facts


def native_facts() -> dict:
    """Where 16 bits are native nothing casts, and only the patch embedding is float32."""
    facts, before = {}, (management.should_use_bf16, management.should_use_fp16)
    for name in ("bf16", "fp16"):
        management.should_use_bf16 = lambda *given, name=name, **options: name == "bf16"
        management.should_use_fp16 = lambda *given, name=name, **options: name == "fp16"
        model = compat.model_of_weights(weights(), DTYPES[name])
        facts[f"native {name}"] = compat.causal_model(model).dtype is DTYPES[name] and (
            named(model) == of_core(weights(), DTYPES[name])
        )
    management.should_use_bf16, management.should_use_fp16 = before
    return facts


def vae_facts() -> dict:
    facts, path = {}, saved("vae", vae_weights())
    for name, dtype in DTYPES.items():
        vae = compat.load_vae(path, name)
        facts[name] = vae_identity(vae, 8).weights == weights_identity(load_vae(path, "cpu", dtype), dtype)
    return facts


def tiny_clip(tensors: dict[str, torch.Tensor], dtype):
    """ComfyUI's own T5 with a small shape, as its umt5-xxl is put together."""

    class Small(sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None, **rest):
            super().__init__(
                device=device,
                layer="last",
                textmodel_json_config=dict(T5),
                dtype=dtype,
                special_tokens={"end": 1, "pad": 0},
                model_class=comfy.text_encoders.t5.T5,
                enable_attention_masks=True,
                zero_out_masked=True,
                model_options={},
            )

    module = sd1_clip.SD1ClipModel(device="cpu", dtype=dtype, name="umt5xxl", clip_model=Small)
    module.load_sd(tensors)
    patcher = patching.ModelPatcher(module, CPU, CPU)
    return types.SimpleNamespace(patcher=patcher, layer_idx=None, tokenizer_options={})


def text_facts() -> dict:
    pocket = load_pocket_clip()
    facts = {"pocket": clip_identity(pocket) == text_identity(TextEncoder.load("pocket", dtype=FP32).model)}
    shapes = tiny_clip({}, FP32).patcher.model.umt5xxl.transformer.state_dict()
    facts["names are Hugging Face's"] = all(name.startswith(("shared", "encoder.")) for name in shapes)
    for name in ("fp32", "fp16"):
        tensors = {each: numbers(*shape.shape).to(DTYPES[name]) for each, shape in shapes.items()}
        clip = tiny_clip(tensors, DTYPES[name])
        facts[name] = clip_identity(clip) == text_identity(build_encoder(tensors))
        clip.layer_idx = -2
        facts[f"{name}: another layer"] = clip_identity(clip) != text_identity(build_encoder(tensors))
    return facts


def loading_facts() -> dict:
    """Names while ComfyUI loads, patches, offloads and gives back; each model is named anew at every step."""
    plain, patched = compat.load_model(file("fp32"), None, "fp32"), None
    patched = with_lora(plain)
    merged = compat.load_model(file("fp32"), lora(), "fp32")
    names = while_loaded(patched)
    return {
        "plain": one(while_loaded(plain)),
        "LoRA": one(names),
        "LoRA again": named(with_lora(compat.load_model(file("fp32"), None, "fp32"))) == names[0],
        "LoRA is another model": names[0] != named(plain),
        "its strength counts": named(with_lora(plain, 0.5)) not in (names[0], named(plain)),
        "merged at load": named(merged) == of_core(merge_lora(weights(), load_lora(lora())), FP32),
    }


def int8_facts() -> dict:
    quantised = quantise_state_dict(weights())
    facts = {}
    for name in ("fp32", "bf16"):
        model = compat.load_model(saved("int8", quantised), None, name)
        names = while_loaded(model)
        facts[name] = one(names) and names[0] == of_core(quantised, compat.causal_model(model).dtype)
    model = compat.load_model(saved("int8", quantised), None, "fp32")
    facts["LoRA on it"] = one(while_loaded(with_lora(model))) and named(with_lora(model)) != named(model)
    node, _ = compat.quantise_model(compat.load_model(file("fp32"), None, "fp32"))
    facts["made by the node"] = named(node) == of_core(quantised, compat.causal_model(node).dtype)
    if compat.int8.knows_int8():  # others' files, which ComfyUI's own loader reads
        rough = {n: t.amax().reshape(()) if n.endswith(".weight_scale") else t for n, t in quantised.items()}
        model = comfy.sd.load_diffusion_model_state_dict(dict(rough))
        facts["one scale a weight"] = named(model) == of_core(canonical(rough), compat.causal_model(model).dtype)
    return facts


def fp8_facts() -> dict:
    """Scaled fp8 as repackaged files have it, and bf16 kept in fp8."""
    tensors = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, tensor in weights(BF16).items():
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and is_block_linear(layer):
            tensors[name] = (tensor.float() / 0.01).clamp(-448, 448).to(torch.float8_e4m3fn)
            tensors[f"{layer}.scale_weight"] = torch.tensor(0.01)
        else:
            tensors[name] = tensor
    other = {name: t * 2 if name.endswith("scale_weight") else t for name, t in tensors.items()}

    def load(content):
        return comfy.sd.load_diffusion_model_state_dict(dict(content))

    model, kept = load(tensors), compat.model_of_weights(weights(BF16), torch.float8_e4m3fn)
    return {
        "scaled": one(while_loaded(model)) and named(load(tensors)) == named(model),
        "its scales count": named(load(other)) != named(model),
        "kept in fp8": one(while_loaded(kept)),
        "kept in fp8 is another model": named(kept) != of_core(weights(BF16), FP32),
    }


def dynamic_facts() -> dict:
    """Dynamic VRAM, as far as it shows without a GPU: weights as in the file, and a cast in place at the first load."""
    if "for_dynamic" not in inspect.signature(patching.ModelPatcher._load_list).parameters:
        return {}
    origins, core = dynamic_origins(BF16, "fp16")
    wide, _ = dynamic_origins(FP32, "bf16")
    rounded, _ = dynamic_origins(FP32, "", BF16)  # kept in bfloat16, computed in float32
    known = {alias.model for alias in origins[0].aliases}
    return {
        "one name": origins[0].model == origins[1].model == core,
        "and for float32 files": wide[0].model == wide[1].model,
        "and rounded as without": {each.model for each in rounded} == {named(compat.model_of_weights(weights(), BF16))},
        "the same old names": {alias.model for alias in origins[1].aliases} == known,
        "old names": sorted(known),
    }


def dynamic_origins(kept, native: str, kept_as=None):
    """Of a MODEL under dynamic VRAM, before and after its first load; and the command line's name.

    kept: the file's dtype. native: the 16 bits that the device computes in. kept_as: the dtype that ComfyUI must keep.
    """

    class Dynamic(patching.ModelPatcher):
        def is_dynamic(self):
            return True

    before = management.should_use_fp16, management.should_use_bf16, patching.CoreModelPatcher
    management.should_use_fp16 = lambda *given, **options: native == "fp16"
    management.should_use_bf16 = lambda *given, **options: native == "bf16"
    patching.CoreModelPatcher = Dynamic
    model = comfy.sd.load_diffusion_model_state_dict(weights(kept), model_options={"dtype": kept_as} if kept_as else {})
    management.should_use_fp16, management.should_use_bf16, patching.CoreModelPatcher = before
    bare, dtype = model.model.diffusion_model.blocks[0].modulation, compat.causal_model(model).dtype
    held = bare.dtype
    made = [origin_of(model)]
    model._load_list(for_dynamic=True, default_device=CPU)
    assert held is kept and bare.dtype is not kept, "nothing was cast, so nothing is shown"
    sys.modules["pack.nodes.compat.identity"]._names.clear()
    return [*made, origin_of(model)], of_core(weights(kept), dtype)


def origin_of(model):
    dtype = compat.causal_model(model).dtype
    return film_origin(model, load_pocket_clip(), dtype, StreamConfig(), (64, 48), 0)


def earlier_facts() -> dict:
    """The names that the version before gave, which the test has written down."""
    model, vae = compat.load_model(file("fp32"), None, "fp32"), compat.load_vae(saved("vae", vae_weights()), "fp32")
    return {
        "plain": [alias.model for alias in origin_of(model).aliases],
        "LoRA": [alias.model for alias in origin_of(with_lora(model)).aliases],
        "vae": [alias.weights for alias in vae_identity(vae, 8).aliases],
        "text": [alias.text_encoder for alias in origin_of(model).aliases],
    }


def refused() -> str:
    model = compat.load_model(file("fp32"), None, "fp32")
    layer = model.model.diffusion_model.blocks[1].ffn[0]
    layer.weight = torch.nn.Parameter(torch.empty_like(layer.weight, device="meta"), requires_grad=False)
    try:
        return named(model)
    except ValueError as error:
        return str(error)


def gguf_facts() -> dict:
    """With ComfyUI-GGUF's own layers, where they are, else with stand-ins for them."""
    layers = gguf_layers(GGUF[0] if GGUF else None)
    model, again = gguf_model(layers, weights()), gguf_model(layers, weights())
    changed = gguf_model(layers, {**weights(), "blocks.1.ffn.0.weight": -weights()["blocks.1.ffn.0.weight"]})
    patched = with_lora(model)
    return {
        "stays": one(while_loaded(model)),
        "again": named(again) == named(model),
        "content counts": named(changed) != named(model),
        "LoRA": one(while_loaded(patched)) and named(patched) != named(model),
        "has no old name": origin_of(model).aliases == (),
        **gguf_text_facts(layers),
    }


def gguf_text_facts(layers) -> dict:
    """The same layers in a text encoder."""
    shapes = tiny_clip({}, FP32).patcher.model.umt5xxl.transformer.state_dict()

    def clip(sign: int):
        tensors = {name: numbers(*shape.shape) for name, shape in shapes.items()}
        made = tiny_clip(tensors, FP32)
        for name, module in made.patcher.model.umt5xxl.transformer.named_modules():
            if isinstance(module, torch.nn.Linear):
                packed = gguf_tensor(layers, f"{name}.weight", tensors[f"{name}.weight"] * sign)
                module.__class__ = layers.ops.Linear
                module.weight = torch.nn.Parameter(packed, requires_grad=False)
        return clip_identity(made)

    return {"text": clip(1) == clip(1), "text: content counts": clip(1) != clip(-1)}


FACTS = {
    "core": core_facts,
    "native": native_facts,
    "vae": vae_facts,
    "text": text_facts,
    "loading": loading_facts,
    "int8": int8_facts,
    "fp8": fp8_facts,
    "dynamic": dynamic_facts,
    "earlier": earlier_facts,
    "refused": refused,
    "gguf": gguf_facts,
}
if __name__ == "__main__":
    print(json.dumps({name: facts() for name, facts in FACTS.items()}))
