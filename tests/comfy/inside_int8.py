"""Runs inside ComfyUI's own modules, in a process of its own, and prints as JSON what is true: see test_int8.py.

    python inside_int8.py PATH_OF_COMFYUI PATH_OF_THE_PACK

Low-VRAM loading and unloading are driven through ComfyUI's model patcher itself, since a CPU never runs out of VRAM.
"""

import importlib.util
import inspect
import json
import sys
import tempfile
from pathlib import Path

COMFYUI, PACK = sys.argv[1:3]


def import_pack(name: str):
    """The pack under a name of its own: ComfyUI has a module `nodes` too."""
    spec = importlib.util.spec_from_file_location(name, Path(PACK) / "__init__.py", submodule_search_locations=[PACK])
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


sys.path.insert(0, str(Path(PACK) / "scripts"))
import launch_comfyui  # noqa: E402

if launch_comfyui.EXTRAS.is_dir():
    launch_comfyui.provide_torchvision()
sys.path.remove(str(Path(PACK) / "scripts"))
sys.path.insert(0, COMFYUI)
sys.argv = [sys.argv[0], "--cpu"]
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.sd  # noqa: E402
import torch  # noqa: E402

import_pack("pack")
from pack.longlive_core.checkpoints import LoraLayer, build_model, load_state_dict, merge_lora  # noqa: E402
from pack.longlive_core.checkpoints.tensor_files import write_safetensors  # noqa: E402
from pack.longlive_core.config import ModelConfig, StreamConfig  # noqa: E402
from pack.longlive_core.engine.noise import AddressedNoise  # noqa: E402
from pack.longlive_core.engine.rollout import rollout  # noqa: E402
from pack.longlive_core.engine.shot import PromptSpan  # noqa: E402
from pack.longlive_core.model import CausalWan, WanModel  # noqa: E402
from pack.longlive_core.quant import block_linear_bytes, int8_layers, quantise_state_dict  # noqa: E402
from pack.nodes import compat  # noqa: E402

CONFIG = ModelConfig(dim=256, ffn_dim=512, num_heads=2, num_layers=2)
CPU = torch.device("cpu")
LAYERS = [f"blocks.{block}.{name}" for block in (0, 1) for name in ("self_attn.q", "cross_attn.o", "ffn.0")]


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: tensor.detach() for name, tensor in WanModel(CONFIG).state_dict().items()}


def lora() -> dict[str, LoraLayer]:
    """On layers that INT8 touches and on one that it does not; large enough that one too many or too few shows."""
    generator = torch.Generator().manual_seed(1)
    sizes = {layer: tuple(weights()[f"{layer}.weight"].shape) for layer in [*LAYERS, "text_embedding.2"]}
    return {
        layer: LoraLayer(
            torch.randn(4, columns, generator=generator), torch.randn(rows, 4, generator=generator) * 0.02, 4.0
        )
        for layer, (rows, columns) in sizes.items()
    }


def with_lora(model):
    """As ComfyUI's LoRA loaders do it."""
    tensors = {}
    for layer, part in lora().items():
        tensors[f"diffusion_model.{layer}.lora_A.weight"] = part.down
        tensors[f"diffusion_model.{layer}.lora_B.weight"] = part.up
    return comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0.0)[0]


def latents(module) -> torch.Tensor:
    """Return a Wan module's result for a fixed prompt and noise; two chunks with a prompt switch."""
    spans = [PromptSpan(i, torch.randn(1, 7, 4096, generator=torch.Generator().manual_seed(i))) for i in (0, 1)]
    model = CausalWan(module, ModelConfig.from_module(module), device=CPU, dtype=torch.float32)
    made = rollout(model, spans, 2, (4, 4), StreamConfig(denoising_steps=(1000, 500)), AddressedNoise(0))
    return torch.cat([chunk.latents for chunk in made], 2)


def loaded(model, memory: int = 0, unload: int = 0) -> torch.Tensor:
    """Latents of a MODEL in its place, as ComfyUI puts it there, and back again.

    memory: bytes of weights that may be loaded, the rest stays offloaded (low VRAM); 0: all.
    unload: bytes to give back after loading, as when another model needs room.
    """
    model.patch_model(CPU, lowvram_model_memory=memory)
    try:
        if unload:
            model.partially_unload(CPU, unload)
        layers = [layer for layer in model.model.modules() if hasattr(layer, "prev_comfy_cast_weights")]
        assert bool(layers) is bool(memory or unload), "ComfyUI did not offload anything, or not nothing"
        if memory and not compat.int8.knows_int8():
            patched = any(layer.weight_function for layer in layers if hasattr(layer, "weight_scale"))
            assert patched is bool(model.patches), "offloaded INT8 layers lack their LoRA, or have one"
        return latents(model.model.diffusion_model)
    finally:
        model.detach()


def state(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.diffusion_model.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def refusal(action) -> str:
    try:
        action()
    except ValueError as error:
        return str(error)
    return ""


def plain_facts(model) -> dict:
    """Quantising without a LoRA."""
    before, expected = state(model), loaded(model)
    quantised, made = compat.quantise_model(model)
    return {
        "input is as it was": equal(state(model), before) and torch.equal(loaded(model), expected),
        "input has its patches": not model.patches and not model.object_patches,
        "weights are the core's": equal(made, quantise_state_dict(weights())),
        "film is the core's": difference(loaded(quantised), latents(build_model(quantise_state_dict(weights())))),
        "error against float32": difference(loaded(quantised), expected),
        "bytes of a block's linears, bf16 / INT8": block_linear_bytes(
            {name: tensor.bfloat16() for name, tensor in before.items()}
        )
        / block_linear_bytes(state(quantised)),
        "size ComfyUI counts on": quantised.model_size() / model.model_size(),
        "low VRAM": difference(loaded(quantised, memory=100_000), loaded(quantised)),
        "unloaded in part": difference(loaded(quantised, unload=500_000), loaded(quantised)),
    }


def lora_facts(model) -> dict:
    """A LoRA before and one after."""
    exact, without = loaded(with_lora(model)), loaded(model)
    patched = with_lora(model)
    patches = {key: len(entries) for key, entries in patched.patches.items()}
    before, made = compat.quantise_model(patched)
    expected = quantise_state_dict(merge_lora(weights(), lora()))
    patched.patch_model(CPU)  # in use, with the LoRA in its weights
    while_loaded = compat.quantise_model(patched)[1]
    patched.detach()
    after = with_lora(compat.quantise_model(model)[0])
    clean = state(after)
    facts = {
        "what the LoRA does": difference(without, exact),
        "before: weights": max(
            difference(made[name].float(), expected[name].float()) for name in expected if made[name].any()
        ),
        "before: the same while in use": equal(while_loaded, made),
        "before: error": difference(loaded(before), exact),
        "before: input has its patches": patches == {key: len(v) for key, v in patched.patches.items()},
        "before: nothing is patched twice": not before.patches,
        "after: error": difference(loaded(after), exact),
        "after: restored": equal(state(after), clean),
        "after: low VRAM": difference(loaded(after, memory=100_000), loaded(after)),
        "after: unloaded in part": difference(loaded(after, unload=500_000), loaded(after)),
        "after: restored again": equal(state(after), clean),
    }
    after.patch_model(CPU)  # as ComfyUI's save nodes do, with the LoRA in place
    saved = {name: tensor.clone() for name, tensor in for_saving(after).items()}
    facts["after: saved"] = difference(saved_latents(saved), latents(after.model.diffusion_model))
    after.detach()
    return facts


def for_saving(model) -> dict[str, torch.Tensor]:
    save = model.model.state_dict_for_saving
    newer = "unet_state_dict" in inspect.signature(save).parameters
    return save(model.model.diffusion_model.state_dict()) if newer else save()


def saved_latents(tensors: dict) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        path = write_safetensors(Path(folder) / "model.safetensors", tensors, {})
        read = load_state_dict(path)
        assert len(int8_layers(read)) == 20
        return latents(build_model(read))


def file_facts() -> dict:
    """Load LongLive's way to an INT8 file, with and without a LoRA merged in."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_safetensors(Path(folder) / "int8.safetensors", quantise_state_dict(weights()), {})
        model = compat.load_model(str(path), None, "fp32")
    return {"film is the core's": difference(loaded(model), latents(build_model(quantise_state_dict(weights()))))}


def refusals(model) -> dict:
    replaced, injected = model.clone(), model.clone()
    replaced.add_object_patch("diffusion_model.blocks.0.self_attn.forward", lambda x: x)
    injected.set_injections("bypass_lora", [])
    compiled = model.clone()
    compiled.add_wrapper_with_key("apply_model", "torch.compile", lambda executor, *a, **k: executor(*a, **k))
    quantised, _ = compat.quantise_model(model)
    layer = quantised.model.diffusion_model.blocks[0].self_attn.q
    cases = {
        "twice": lambda: compat.quantise_model(quantised),
        "replaced part": lambda: compat.quantise_model(replaced),
        "injection": lambda: compat.quantise_model(injected),
        "compiled": lambda: compat.quantise_model(compiled),
    }
    if not compat.int8.knows_int8():
        cases["scheduled LoRA"] = lambda: layer.set_weight(torch.zeros(256, 256), inplace_update=True)
    return {name: refusal(action) for name, action in cases.items()}


def carried(model) -> bool:
    """A setting of another node's reaches the INT8 MODEL."""
    changed = model.clone()
    changed.model_options["transformer_options"]["mine"] = 7
    changed.add_object_patch("model_sampling", "mine")
    quantised, _ = compat.quantise_model(changed)
    same = quantised.model_options["transformer_options"].get("mine") == 7
    return same and quantised.object_patches == {"model_sampling": "mine"}


def main() -> None:
    with torch.inference_mode():
        model = compat.model_of_weights(weights(), torch.float32)
        facts = {
            "own layers": not compat.int8.knows_int8(),
            "plain": plain_facts(model),
            "lora": lora_facts(model),
            "file": file_facts(),
            "refused": refusals(model),
            "settings are carried": carried(model),
        }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
