"""INT8 models: which layers, how many bytes, how they are saved and loaded, and that they still make the same film."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from longlive_core.checkpoints import (
    CheckpointError,
    LoraLayer,
    build_model,
    convert_model,
    load_state_dict,
    merge_lora,
)
from longlive_core.config import ModelConfig, StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.model import CausalWan, WanModel
from longlive_core.model.wan import Block
from longlive_core.quant import (
    Int8Linear,
    block_linear_bytes,
    dequantise,
    int8_layers,
    quantise_module,
    quantise_rows,
    quantise_state_dict,
)
from tests.conftest import LATENT_SIZE, TINY

REAL = ModelConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30)  # LongLive 1.3B
HEADED = ModelConfig(dim=128, ffn_dim=96, num_heads=1, num_layers=2, text_dim=24, freq_dim=16)
Q = "blocks.0.self_attn.q"


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return {name: value.detach() for name, value in WanModel(HEADED).state_dict().items()}


def relative(given, expected):
    return ((given - expected).norm() / expected.norm()).item()


# Which layers, how many bytes


def test_exactly_the_blocks_linear_layers_are_int8(weights):
    """Forbids quantised embeddings, norms, modulation or head, and a linear layer of a block that is forgotten."""
    given = dict(weights)
    quantised = quantise_state_dict(weights)
    linears = {n for n, m in WanModel(HEADED).named_modules() if isinstance(m, nn.Linear) and n.startswith("blocks.")}
    assert set(int8_layers(quantised)) == linears and len(linears) == 10 * HEADED.num_layers
    for name, tensor in weights.items():
        if name.removesuffix(".weight") in linears and name.endswith(".weight"):
            assert quantised[name].dtype == torch.int8
        else:
            assert quantised[name] is tensor
    assert weights.keys() == given.keys() and all(weights[name] is given[name] for name in given)


def test_the_layout_is_comfyuis(weights):
    """Forbids names, shapes or marks that ComfyUI's own loader does not know."""
    quantised = quantise_state_dict(weights)
    weight, scale, mark = (quantised[f"{Q}.{part}"] for part in ("weight", "weight_scale", "comfy_quant"))
    assert weight.dtype == torch.int8 and scale.dtype == torch.float32 and mark.dtype == torch.uint8
    assert scale.shape == (weight.shape[0], 1)  # this shape scales rows, where a flat one would scale columns
    assert json.loads(mark.numpy().tobytes()) == {"format": "int8_tensorwise"}
    step = scale * 0.5001
    assert ((weight.float() * scale - weights[f"{Q}.weight"]).abs() <= step).all()


def test_block_linears_of_the_real_model_shrink():
    """Forbids scales, marks or biases that eat up the gain: at 1.3B's shapes at least 1.9 times smaller than bf16."""
    with torch.device("meta"):
        model = WanModel(REAL).to(torch.bfloat16)
    before = block_linear_bytes(model.state_dict())
    after = block_linear_bytes(quantise_module(model).state_dict())
    assert before == 30 * (8 * 1536**2 + 2 * 1536 * 8960 + 8 * 1536 + 8960 + 1536) * 2
    assert before / after >= 1.9


def test_a_real_block_shrinks_in_memory_and_on_disk(tmp_path):
    """Forbids bytes that are saved on paper only: one block of the real model, held and written."""
    torch.manual_seed(0)
    with torch.device("meta"):
        block = Block(REAL)
    holder = nn.Module()
    holder.blocks = nn.ModuleList([block.to_empty(device="cpu").to(torch.bfloat16).requires_grad_(False)])
    for parameter in block.parameters():
        parameter.normal_(std=0.02)
    before = block_linear_bytes(holder.state_dict())
    save_file(holder.state_dict(), tmp_path / "bf16.safetensors")
    quantise_module(holder)
    assert before / block_linear_bytes(holder.state_dict()) >= 1.9
    save_file(holder.state_dict(), tmp_path / "int8.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("bf16", "int8")]
    assert sizes[0] / sizes[1] >= 1.9


def test_nothing_to_quantise_is_an_error(weights):
    """Forbids an "INT8 model" without one INT8 layer."""
    with pytest.raises(ValueError, match="nothing to quantise"):
        quantise_state_dict({"decoder.conv1.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match="nothing to quantise"):
        quantise_module(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="INT8 takes at most"):
        quantise_state_dict({f"{Q}.weight": torch.empty(1, 200_000, device="meta")})


def test_quantising_twice_changes_nothing(weights):
    """Forbids a second loss where a file that is INT8 already is converted again."""
    once = quantise_state_dict(weights)
    twice = quantise_state_dict(once)
    assert once.keys() == twice.keys() and all(twice[name] is once[name] for name in once)


# The module


def test_module_and_state_dict_agree(weights):
    """Forbids two ways to quantise that differ."""
    module = WanModel(HEADED)
    module.load_state_dict(weights)
    state = quantise_module(module).state_dict()
    expected = quantise_state_dict(weights)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_casting_keeps_integers_and_scales(dtype):
    """Forbids `.to(bfloat16)` on the scales, which alone would cost up to 0.4 %."""
    linear = nn.Linear(24, 16)
    layer = Int8Linear.from_linear(linear)
    weight, scale = layer.weight.clone(), layer.weight_scale.clone()
    layer.to(dtype)
    assert torch.equal(layer.weight, weight) and torch.equal(layer.weight_scale, scale)
    assert layer.weight_scale.dtype == torch.float32 and layer.bias.dtype == dtype
    assert layer(torch.randn(3, 24, dtype=dtype)).dtype == dtype
    assert layer.to("meta").weight_scale.is_meta


def test_layers_without_bias():
    """Forbids a bias that appears from nowhere."""
    linear = nn.Linear(24, 16, bias=False)
    layer = Int8Linear.from_linear(linear)
    x = torch.randn(5, 24)
    assert set(layer.state_dict()) == {"weight", "weight_scale", "comfy_quant"}
    assert relative(layer(x), linear(x)) < 0.02


@torch.no_grad()
def test_the_causal_forward_drives_it(tiny_model, contexts):
    """Forbids a layer that the causal forward cannot call, over chunks, cache, recache and clean passes."""
    state = {name: value.clone() for name, value in tiny_model.module.state_dict().items()}
    twin = WanModel(TINY)
    twin.load_state_dict(state)
    model = CausalWan(quantise_module(twin), TINY)
    films = []
    for engine in (tiny_model, model):
        spans = [PromptSpan(0, contexts[0]), PromptSpan(2, contexts[1])]
        chunks = rollout(engine, spans, 3, LATENT_SIZE, StreamConfig(window=6), AddressedNoise(0))
        films.append(torch.cat([chunk.latents for chunk in chunks], 2))
    assert films[0].shape == films[1].shape
    assert 0 < relative(films[1], films[0]) < 0.2


# Files


def saved(tmp_path, tensors, name="model.safetensors"):
    save_file(tensors, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_files_load_as_they_were_saved(tmp_path, weights, prefix):
    """Forbids INT8 files that are refused or cast on loading, also as ComfyUI's save node names them."""
    quantised = quantise_state_dict(weights)
    path = saved(tmp_path, {prefix + name: tensor for name, tensor in quantised.items()})
    loaded = load_state_dict(path)
    assert loaded.keys() == quantised.keys() and all(torch.equal(loaded[name], quantised[name]) for name in loaded)
    model = build_model(loaded, dtype=torch.bfloat16, path=path)
    state = model.state_dict()
    for layer in int8_layers(quantised):
        assert isinstance(model.get_submodule(layer), Int8Linear)
        assert torch.equal(state[f"{layer}.weight"], quantised[f"{layer}.weight"])
        assert torch.equal(state[f"{layer}.weight_scale"], quantised[f"{layer}.weight_scale"])
    others = [name for name in state if name.rpartition(".")[0] not in int8_layers(quantised)]
    assert {state[name].dtype for name in others} == {torch.bfloat16}


@pytest.mark.parametrize("scale", [torch.tensor(0.01), torch.tensor([0.01]), torch.full((128,), 0.01)])
def test_other_shapes_of_the_scale_load(tmp_path, weights, scale):
    """Forbids refusing a valid file because its scale is one number, or a flat list."""
    quantised = quantise_state_dict(weights) | {f"{Q}.weight_scale": scale}
    loaded = load_state_dict(saved(tmp_path, quantised))
    assert torch.equal(loaded[f"{Q}.weight_scale"], torch.full((128, 1), 0.01))
    build_model(loaded)


def test_a_file_may_leave_layers_as_they_are(tmp_path, weights):
    """Forbids assuming which layers a file has in INT8: another tool may spare a block or take the text embedding."""
    quantised = quantise_state_dict(weights)
    for part in ("weight_scale", "comfy_quant"):
        del quantised[f"{Q}.{part}"]
    quantised[f"{Q}.weight"] = weights[f"{Q}.weight"]
    quantised["text_embedding.0.weight"], quantised["text_embedding.0.weight_scale"] = quantise_rows(
        weights["text_embedding.0.weight"]
    )
    quantised["text_embedding.0.comfy_quant"] = quantised["blocks.0.ffn.0.comfy_quant"].clone()
    model = build_model(load_state_dict(saved(tmp_path, quantised)))
    assert isinstance(model.get_submodule(Q), nn.Linear)
    assert isinstance(model.text_embedding[0], Int8Linear)


def marked(content):
    return torch.tensor(list(content.encode()), dtype=torch.uint8)


BROKEN = {
    "other format": ({f"{Q}.comfy_quant": marked('{"format": "nvfp4"}')}, "in the format nvfp4"),
    "rotated": ({f"{Q}.comfy_quant": marked('{"format": "int8_tensorwise", "convrot": true}')}, "convrot"),
    "no JSON": ({f"{Q}.comfy_quant": marked("int8")}, "not JSON"),
    "float weight": ({f"{Q}.weight": torch.zeros(128, 128)}, "a weight of torch.float32"),
    "no scale": ({f"{Q}.weight_scale": None}, "no scale"),
    "wrong number of scales": ({f"{Q}.weight_scale": torch.ones(7, 1)}, "7 scales"),
    "fp8 beside": ({"text_embedding.0.scale_weight": torch.ones(1)}, "text_embedding.0.scale_weight"),
    "no linear layer": (
        {"patch_embedding.comfy_quant": marked('{"format": "int8_tensorwise"}')},
        "patch_embedding is marked",
    ),
}


@pytest.mark.parametrize(("changes", "words"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_computed_is_refused(tmp_path, weights, changes, words):
    """Forbids loading other quantisations as if they were this one: the weights would mean something else."""
    tensors = {**quantise_state_dict(weights), **changes}
    path = saved(tmp_path, {name: tensor for name, tensor in tensors.items() if tensor is not None})
    with pytest.raises(CheckpointError, match="quantised") as error:
        load_state_dict(path)
    assert words in str(error.value) and str(path) in str(error.value)


def test_convert_writes_int8(tmp_path, weights):
    """Forbids a converter that rounds to bf16 first, quantises before it merges, or casts integers."""
    source = saved(tmp_path, weights, "source.safetensors")
    target = convert_model(source, tmp_path / "int8.safetensors", int8=True)
    written, expected = load_file(target), quantise_state_dict(weights)
    assert written.keys() == expected.keys()
    for name in int8_layers(expected):
        assert torch.equal(written[f"{name}.weight"], expected[f"{name}.weight"])
        assert torch.equal(written[f"{name}.weight_scale"], expected[f"{name}.weight_scale"])
        assert written[f"{name}.bias"].dtype == torch.bfloat16
    with safe_open(target, "pt") as file:
        assert "source_sha256" in file.metadata()
    again = load_file(convert_model(target, tmp_path / "again.safetensors"))
    assert all(torch.equal(again[name], written[name]) for name in written)


def test_lora_is_merged_before_quantising(tmp_path, weights):
    """Forbids a LoRA that is dropped or added to the integers."""
    down = torch.linspace(0, 1, 256).view(2, 128)
    lora = {
        f"diffusion_model.{Q}.lora_A.weight": down,
        f"diffusion_model.{Q}.lora_B.weight": torch.linspace(0, 1, 256).view(128, 2),
    }
    source, file = saved(tmp_path, weights, "source.safetensors"), saved(tmp_path, lora, "lora.safetensors")
    target = convert_model(source, tmp_path / "int8.safetensors", lora=file, int8=True)
    expected = quantise_rows(weights[f"{Q}.weight"] + lora[f"diffusion_model.{Q}.lora_B.weight"] @ down)
    written = load_file(target)
    assert torch.equal(written[f"{Q}.weight"], expected[0]) and torch.equal(written[f"{Q}.weight_scale"], expected[1])


def test_lora_into_an_int8_model_gets_new_scales(weights):
    """Forbids a LoRA added to an INT8 weight's integers, or clipped at the old scale."""
    quantised = quantise_state_dict(weights)
    before = {name: tensor.clone() for name, tensor in quantised.items()}
    large = LoraLayer(torch.randn(2, 128), torch.randn(128, 2), 2.0)
    merged = merge_lora(quantised, {Q: large}, strength=0.5)
    exact = dequantise(quantised[f"{Q}.weight"], quantised[f"{Q}.weight_scale"]) + 0.5 * large.delta()
    assert merged[f"{Q}.weight"].dtype == torch.int8
    assert relative(dequantise(merged[f"{Q}.weight"], merged[f"{Q}.weight_scale"]), exact) < 0.01
    assert all(torch.equal(quantised[name], before[name]) for name in before)
    changed = {name for name in merged if not torch.equal(merged[name], before[name])}
    assert changed == {f"{Q}.weight", f"{Q}.weight_scale"}
