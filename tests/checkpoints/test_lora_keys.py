"""LoRA files of every trainer: each naming gives the same merged weights, and what is not merged is named truly."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core import cli
from longlive_core.checkpoints import CheckpointError, convert_lora, load_lora, merge_lora
from longlive_core.checkpoints.key_table import BLOCK_MODULES, OUTER_MODULES, underscored, wan_module
from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.run import check

from ..lora_files import ALPHA, NAMINGS, RANK, by_hand, changes, lora_file

CONFIG = ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=2)
Q = "blocks.0.self_attn.q"


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return {name: value.detach() for name, value in WanModel(CONFIG).state_dict().items()}


def message(call, *arguments, **options):
    with pytest.raises(CheckpointError) as error:
        call(*arguments, **options)
    return str(error.value)


def refusal(tmp_path, tensors, metadata=None):
    path = tmp_path / "lora.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return message(load_lora, path)


def pair(layer, prefix="diffusion_model.", width=128):
    name = f"{prefix}{layer}"
    return {f"{name}.lora_A.weight": torch.rand(2, width), f"{name}.lora_B.weight": torch.rand(width, 2)}


def assert_close(given, expected):
    assert given.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(given[name].float(), expected[name], msg=lambda text, name=name: f"{name}: {text}")


# Namings


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_merges_as_by_hand(tmp_path, weights, naming):
    """Forbids a layer that is dropped, put elsewhere, or scaled wrongly, for any trainer's names."""
    made = changes(weights)
    save_file(lora_file(naming, made), tmp_path / "lora.safetensors")
    merged = merge_lora(weights, load_lora(tmp_path / "lora.safetensors"), 0.5, path="x")
    assert_close(merged, by_hand(weights, naming, made, 0.5))


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_is_converted_to_the_same_lora(tmp_path, weights, naming):
    """Forbids a converted file that says something else than its source, or names that only its trainer knows."""
    made = changes(weights)
    save_file(lora_file(naming, made), tmp_path / "lora.safetensors")
    written = convert_lora(tmp_path / "lora.safetensors", tmp_path / "out.safetensors")
    tensors = load_file(written)
    endings = (".lora_A.weight", ".lora_B.weight", ".alpha")
    assert tensors.keys() == {f"diffusion_model.{layer}{ending}" for layer in made for ending in endings}
    for layer, (down, up) in made.items():
        assert torch.equal(tensors[f"diffusion_model.{layer}.lora_A.weight"], down)
        assert torch.equal(tensors[f"diffusion_model.{layer}.lora_B.weight"], up)
        assert tensors[f"diffusion_model.{layer}.alpha"].item() == (ALPHA if NAMINGS[naming][3] else RANK)


@pytest.mark.parametrize("command", ["convert", "merge", "check"])
@pytest.mark.parametrize("naming", ["kohya", "diffusers", "diffsynth_pipe"])
def test_commands_take_them(tmp_path, capsys, monkeypatch, weights, naming, command):
    """Forbids a table that one way in knows and another does not."""
    monkeypatch.setattr(check, "SIZE", (32, 16))
    model, lora, out = (tmp_path / f"{name}.safetensors" for name in ("model", "lora", "out"))
    made = changes(weights)
    save_file(weights, model)
    save_file(lora_file(naming, made), lora)
    if command == "check":
        assert cli.main(["check", "--model", str(model), "--lora-strength", "2", "--dtype", "fp32"]) == 0
        assert "note: --lora-strength has no effect without --lora" in capsys.readouterr().err
        assert cli.main(["check", "--model", str(model), "--lora", str(lora), "--dtype", "fp32"]) == 0
        assert f"LoRA of {len(made)} layers, rank 4" in capsys.readouterr().out
        return
    arguments = [lora, out, "--lora"] if command == "convert" else [model, out, "--merge", lora]
    assert cli.main(["convert", *map(str, arguments)]) == 0, capsys.readouterr().err
    if command == "merge":
        expected = by_hand(weights, naming, made)
        assert all(
            torch.equal(value, expected[name].bfloat16()) or (value - expected[name]).abs().max() < 0.1
            for name, value in load_file(out).items()
        )


def test_the_table_has_every_module_of_the_model(weights):
    """Forbids a layer of Wan that no LoRA could reach, and two spellings that mean different layers."""
    modules = {name if name.endswith("modulation") else name.rpartition(".")[0] for name in weights}
    assert {wan_module(name) for name in modules} == modules
    for table in (BLOCK_MODULES, OUTER_MODULES):
        spellings = [underscored(name) for ours, others in table.items() for name in {ours, *others}]
        assert len(spellings) == len(set(spellings))
    for foreign in (
        "transformer_blocks.0.attn1.to_q",
        "lycoris_transformer_blocks_0_attn1_to_q",
        "blocks.0.attn.q",
        "lora_unet_double_blocks_0_img_attn_qkv",
        "blocks.x.self_attn.q",
        "blocks.0.self_attn",
    ):
        assert wan_module(foreign) is None, foreign


# Other kinds of changes


def test_loha_lokr_and_differences_are_exact(tmp_path, weights):
    """Forbids that lycoris' other kinds, or a LoRA that was extracted from a model, are merged approximately."""
    g = torch.Generator().manual_seed(5)
    r = lambda *shape: torch.randn(*shape, generator=g)  # noqa: E731
    loha = {"hada_w1_a": r(128, 3), "hada_w1_b": r(3, 128), "hada_w2_a": r(128, 3), "hada_w2_b": r(3, 128)}
    lokr = {"lokr_w1": r(4, 4), "lokr_w2_a": r(32, 2), "lokr_w2_b": r(2, 32)}
    whole = {"lokr_w1": r(4, 4), "lokr_w2": r(32, 32)}
    tensors = {
        **{f"lycoris_blocks_0_self_attn_q.{name}": value for name, value in loha.items()},
        "lycoris_blocks_0_self_attn_q.alpha": torch.tensor(6.0),
        **{f"lycoris_blocks_0_attn1_to_k.{name}": value for name, value in lokr.items()},
        "lycoris_blocks_0_attn1_to_k.alpha": torch.tensor(1.0),
        **{f"transformer.blocks.0.attn1.to_v.{name}": value for name, value in whole.items()},
        "transformer.blocks.0.attn1.to_v.alpha": torch.tensor(1e10),  # lycoris' sign that alpha does not count
        "diffusion_model.blocks.0.self_attn.o.diff": r(128, 128),
        "diffusion_model.blocks.0.self_attn.o.diff_b": r(128),
        "diffusion_model.blocks.0.norm3.diff": r(128),
        "diffusion_model.blocks.1.norm3.w_norm": r(128),
        "diffusion_model.blocks.1.norm3.b_norm": r(128),
        "diffusion_model.blocks.1.self_attn.norm_q.diff": r(128),
        "diffusion_model.blocks.1.modulation.diff": r(1, 6, 128),
        "diffusion_model.patch_embedding.lora_down.weight": r(2, 16, 1, 2, 2),
        "diffusion_model.patch_embedding.lora_up.weight": r(128, 2, 1, 1, 1),
    }
    expected = {name: weight.clone() for name, weight in weights.items()}
    first, second = loha["hada_w1_a"] @ loha["hada_w1_b"], loha["hada_w2_a"] @ loha["hada_w2_b"]
    expected[f"{Q}.weight"] += 0.5 * 2 * first * second
    expected["blocks.0.self_attn.k.weight"] += 0.25 * torch.kron(lokr["lokr_w1"], lokr["lokr_w2_a"] @ lokr["lokr_w2_b"])
    expected["blocks.0.self_attn.v.weight"] += 0.5 * torch.kron(whole["lokr_w1"], whole["lokr_w2"])
    prefix = "diffusion_model.blocks"
    expected["blocks.0.self_attn.o.weight"] += 0.5 * tensors[f"{prefix}.0.self_attn.o.diff"]
    expected["blocks.0.self_attn.o.bias"] += 0.5 * tensors[f"{prefix}.0.self_attn.o.diff_b"]
    expected["blocks.0.norm3.weight"] += 0.5 * tensors[f"{prefix}.0.norm3.diff"]
    expected["blocks.1.norm3.weight"] += 0.5 * tensors[f"{prefix}.1.norm3.w_norm"]
    expected["blocks.1.norm3.bias"] += 0.5 * tensors[f"{prefix}.1.norm3.b_norm"]
    expected["blocks.1.self_attn.norm_q.weight"] += 0.5 * tensors[f"{prefix}.1.self_attn.norm_q.diff"]
    expected["blocks.1.modulation"] += 0.5 * tensors[f"{prefix}.1.modulation.diff"]
    down, up = (tensors[f"diffusion_model.patch_embedding.lora_{side}.weight"] for side in ("down", "up"))
    expected["patch_embedding.weight"] += 0.5 * torch.einsum("or...,ri...->oi...", up.expand(128, 2, 1, 2, 2), down)
    save_file(tensors, tmp_path / "lora.safetensors")
    assert_close(merge_lora(weights, load_lora(tmp_path / "lora.safetensors"), 0.5), expected)
    converted = convert_lora(tmp_path / "lora.safetensors", tmp_path / "out.safetensors")
    assert all(name.startswith("diffusion_model.") for name in load_file(converted))
    assert_close(merge_lora(weights, load_lora(converted), 0.5), expected)


# Alpha


def test_alpha_of_each_layer_and_of_metadata(tmp_path, weights):
    """Forbids one alpha for all layers, and an ignored scale in a file's metadata."""
    made = changes(weights, outside=())
    tensors = lora_file("kohya", made)
    for number, name in enumerate(name for name in tensors if name.endswith(".alpha")):
        tensors[name] = torch.tensor(float(number + 1))
    save_file(tensors, tmp_path / "lora.safetensors")
    alphas = [part.alpha for part in load_lora(tmp_path / "lora.safetensors").values()]
    assert sorted(alphas) == [float(number + 1) for number in range(len(made))]
    for extra, alpha in (({}, 16.0), ({"use_rslora": True}, 32.0)):
        stated = {f"transformer.{name}": value for name, value in {"r": RANK, "lora_alpha": 16, **extra}.items()}
        save_file(
            lora_file("diffusers", made), tmp_path / "lora.safetensors", {"lora_adapter_metadata": json.dumps(stated)}
        )
        assert {part.alpha for part in load_lora(tmp_path / "lora.safetensors").values()} == {alpha}
    assert "states alpha 32" in message(load_lora, tmp_path / "lora.safetensors", alpha=4)


@pytest.mark.parametrize("alpha", [torch.tensor(float("nan")), torch.tensor([1.0, 2.0])])
def test_an_alpha_that_is_no_number(tmp_path, alpha):
    """Forbids NaN in every weight, and PyTorch's own words."""
    text = refusal(tmp_path, {**pair(Q), f"diffusion_model.{Q}.alpha": alpha})
    assert "its alpha at blocks.0.self_attn.q is [" in text


# What is refused

COMFYUI, NOT_EITHER = "ComfyUI's LoRA loader nodes read this file unchanged", "do not read all of it either"


@pytest.mark.parametrize(
    ("entries", "words", "advice"),
    [
        ({f"diffusion_model.{Q}.dora_scale": (128, 1)}, "DoRA, which is not merged here: 1", COMFYUI),
        ({"lora_unet_blocks_0_self_attn_k.dora_scale": (128, 1)}, "DoRA", COMFYUI),
        ({f"base_model.model.{Q}.lora_magnitude_vector.weight": (128,)}, "DoRA", NOT_EITHER),
        ({f"diffusion_model.{Q}.lora_mid.weight": (2, 2, 1, 1)}, "a convolution's core (LoCon)", NOT_EITHER),
        ({f"diffusion_model.{Q}.set_weight": (128, 128)}, "a weight to be replaced", COMFYUI),
        ({f"diffusion_model.{Q}.lora_B.bias": (128,)}, "a bias beside the LoRA", NOT_EITHER),
        ({f"base_model.model.{Q}.base_layer.weight": (128, 128)}, "the weights of the model itself", NOT_EITHER),
        ({f"diffusion_model.{Q}.strange": (1,)}, "entries that are not understood: 1", NOT_EITHER),
        (
            {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (2, 8)},
            "entries of a text encoder",
            "Use LongLive's",
        ),
        ({"text_encoder.layers.0.q.lora_A.weight": (2, 8)}, "entries of a text encoder", "Use"),
        (
            {"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": (2, 8)},
            "entries of Wan image-to-video",
            "Use LongLive's",
        ),
        ({"diffusion_model.vace_blocks.0.self_attn.q.lora_A.weight": (2, 8)}, "entries of Wan VACE", "Use"),
        (
            {"transformer_2.blocks.0.attn1.to_q.lora_A.weight": (2, 8)},
            "entries of the second model of Wan 2.2",
            "Use LongLive's",
        ),
    ],
)
def test_entries_that_are_not_merged_are_named(tmp_path, entries, words, advice):
    """Forbids an entry that is dropped silently, and sending people to a loader that does not read it."""
    text = refusal(tmp_path, {**pair(Q), **{name: torch.rand(shape) for name, shape in entries.items()}})
    assert words in text and advice in text and str(tmp_path / "lora.safetensors") in text
    assert next(iter(entries)) in text


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", "Stable Diffusion (SD or SDXL)"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "Flux, SD3 or HunyuanVideo"),
        ("transformer.single_transformer_blocks.0.attn.to_q", "Flux, SD3 or HunyuanVideo"),
        ("transformer.transformer_blocks.0.attn.to_q", "Flux, SD3 or Qwen-Image"),
        ("diffusion_model.transformer_blocks.0.attn1.to_q", "another video model, such as LTX-Video or CogVideoX"),
        ("diffusion_model.joint_blocks.0.x_block.attn.qkv", "SD3"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "a text encoder"),
        ("diffusion_model.blocks.0.cross_attn.v_img", "Wan image-to-video (I2V)"),
        ("diffusion_model.double_stream_blocks.0.block.attn1.to_q", ""),
        ("diffusion_model.blocks.0.self_attn.q_proj", ""),
    ],
)
def test_loras_of_other_models_are_named(tmp_path, layer, words):
    """Forbids "not understood" for files whose model can be recognised."""
    text = refusal(tmp_path, pair(layer, prefix=""))
    other = f", but of {words}" if words else ": 2 ("
    assert f"belongs to another model: none of its 2 entries is of Wan 2.1{other}" in text
    assert "trained on Wan 2.1 T2V 1.3B" in text


@pytest.mark.parametrize(("width", "words"), [(5120, "Wan 14B (width 5120)"), (3072, "Wan 2.2 5B (width 3072)")])
@pytest.mark.parametrize("layer", [Q, "blocks.0.cross_attn.k", "blocks.39.ffn.0", "blocks.0.attn2.to_out.0"])
def test_loras_of_larger_wans_are_named(tmp_path, width, words, layer):
    """Forbids a list of layers that do not fit for the commonest mix-up, whichever layers were trained."""
    assert words in refusal(tmp_path, pair(layer, width=width))


def test_a_lora_for_the_real_model_on_a_smaller_one(tmp_path, weights):
    """Forbids a puzzle of shapes: it says which model the LoRA is for."""
    save_file(pair(Q, width=1536), tmp_path / "lora.safetensors")
    text = message(merge_lora, weights, load_lora(tmp_path / "lora.safetensors"))
    assert "made for a model of another size (Wan 2.1 1.3B, width 1536)" in text


def test_several_loras_in_one_file(tmp_path):
    """Forbids that one adapter of two is taken, and that one layer under two names is merged once."""
    one, two = (
        {name.replace(".weight", f".{adapter}.weight"): value for name, value in pair(layer).items()}
        for adapter, layer in (("one", Q), ("two", "blocks.0.self_attn.k"))
    )
    assert "holds several LoRAs (adapters: one, two)" in refusal(tmp_path, {**one, **two})
    twice = {**pair(Q), **pair("blocks_0_self_attn_q", prefix="lora_unet_")}
    assert "names the same thing twice: 2 (lora_unet_blocks_0_self_attn_q" in refusal(tmp_path, twice)
    both = {**pair(Q), f"diffusion_model.{Q}.diff": torch.rand(128, 128)}
    assert "diff, down, up are given for one weight, but only one kind can be" in refusal(tmp_path, both)


def test_wrapped_loras(tmp_path):
    """Forbids a refusal for what training code puts around a LoRA's entries."""
    for around in ({"state_dict": pair(Q)}, {"model": {"lora": pair(Q)}}, {"generator_lora": pair(Q), "step": 3}):
        torch.save(around, tmp_path / "lora.pt")
        assert set(load_lora(tmp_path / "lora.pt")) == {Q}


def test_alpha_in_a_pickle_and_in_notes(tmp_path, caplog):
    """Forbids alphas that are dropped because they are plain numbers, and silence about notes that speak of another."""
    torch.save({**pair(Q), f"diffusion_model.{Q}.alpha": 16.0}, tmp_path / "lora.pt")
    assert load_lora(tmp_path / "lora.pt")[Q].alpha == 16.0
    torch.save({**pair(Q), "lora_alpha": 6, "rank": 2}, tmp_path / "lora.pt")
    assert load_lora(tmp_path / "lora.pt")[Q].alpha == 6.0 and not caplog.records
    for metadata in ({"ss_network_alpha": "8"}, {"lora_config": json.dumps({"lora_alpha": 8})}):
        save_file(pair(Q), tmp_path / "lora.safetensors", metadata)
        assert load_lora(tmp_path / "lora.safetensors")[Q].alpha == 2.0
        assert f"but {next(iter(metadata))} says 8: if the LoRA is too strong or too weak, give that" in caplog.text
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 32}), encoding="utf-8")
    caplog.clear()
    save_file(pair(Q), tmp_path / "lora.safetensors")
    load_lora(tmp_path / "lora.safetensors")
    assert "adapter_config.json says 32" in caplog.text
    caplog.clear()
    load_lora(tmp_path / "lora.safetensors", alpha=32)
    assert not caplog.records


def test_what_is_no_lora_says_what_it_is(tmp_path, weights):
    """Forbids "no lora_A" for a model in the LoRA's place, and "0 ()" for a dictionary of others."""
    assert "it is a Wan diffusion model; it belongs in models/diffusion_models" in refusal(tmp_path, weights)
    assert "it is Wan 2.1's VAE" in refusal(tmp_path, {"decoder.middle.0.residual.0.gamma": torch.ones(1)})
    torch.save({"critic_lora": pair(Q)}, tmp_path / "lora.pt")
    assert "its entries are 1 (critic_lora)" in message(load_lora, tmp_path / "lora.pt")


def test_transposed_and_empty_factors(tmp_path, weights):
    """Forbids "another size" for factors that a conversion turned, and a division by a rank of 0."""
    turned = {name: value.t().contiguous() for name, value in pair(Q).items()}
    save_file(turned, tmp_path / "lora.safetensors")
    assert "has its factors transposed" in message(merge_lora, weights, load_lora(tmp_path / "lora.safetensors"))
    assert "do not multiply" in refusal(
        tmp_path, {f"{Q}.lora_A.weight": torch.rand(0, 128), f"{Q}.lora_B.weight": torch.rand(128, 0)}
    )


def test_integers_and_a_strength_that_is_no_number(tmp_path, weights):
    """Forbids factors that were rounded to integers, and NaN in every weight."""
    whole = {name: (value * 10).to(torch.int32) for name, value in pair(Q).items()}
    assert "not of a floating-point type" in refusal(tmp_path, whole)
    save_file(pair(Q), tmp_path / "lora.safetensors")
    parts = load_lora(tmp_path / "lora.safetensors")
    assert "it must be a number" in message(merge_lora, weights, parts, float("nan"))
    assert "alpha is inf for the LoRA" in message(load_lora, tmp_path / "lora.safetensors", alpha=float("inf"))
