"""Model and VAE files in every layout: keys, averages, metadata, and building a model from them."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints import (
    build_model,
    convert_model,
    load_lora,
    load_state_dict,
    load_vae,
)

from .files import message, prefixed, same


def fsdp_name(name):
    return "model._fsdp_wrapped_module." + name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module.")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: {"generator": prefixed(sd, "model.")},
        lambda sd: {"generator_ema": {fsdp_name(name): value for name, value in sd.items()}},
        lambda sd: {"generator": prefixed(sd, "model."), "critic": {"x": torch.zeros(1)}, "step": 7},
        lambda sd: {"model": prefixed(sd, "model.")},
        lambda sd: sd,
    ],
    ids=["longlive_base", "self_forcing_ema", "training_checkpoint", "single_model", "bare"],
)
def test_every_pt_layout_gives_wan_names(tmp_path, weights, wrap):
    """Forbids a prefix or an FSDP wrapper left in a name, which would leave that layer random."""
    torch.save(wrap(weights), tmp_path / "model.pt")
    assert same(load_state_dict(tmp_path / "model.pt"), weights)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_every_safetensors_layout_gives_wan_names(tmp_path, weights, prefix):
    """Forbids that Wan's own files load and ComfyUI's repackaged ones do not, or the reverse."""
    save_file(prefixed(weights, prefix), tmp_path / "model.safetensors")
    assert same(load_state_dict(tmp_path / "model.safetensors"), weights)


WISH = "blocks.0.self_attn.comfy_attention.config"


def encoded(config):
    return torch.tensor(list(config.encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"attention": "comfy_kitchen_int8"}', "(comfy_kitchen_int8)"),
        (
            '{"attention": [{"method": "comfy_kitchen_sol", "tau": 0.1}]}',
            '([{"method": "comfy_kitchen_sol", "tau": 0.1}])',
        ),
        ("not JSON", "(unreadable)"),
    ],
)
def test_attention_settings_of_a_file_are_named(tmp_path, weights, caplog, config, words):
    """Forbids a refusal of files that newer ComfyUIs write, and silently dropping what they require."""
    save_file(prefixed({**weights, WISH: encoded(config)}, "model.diffusion_model."), tmp_path / "model.safetensors")
    loaded = load_state_dict(tmp_path / "model.safetensors")
    assert same(loaded, weights)
    build_model(loaded)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and "in 1 layers " + words in record.getMessage()


def test_converting_keeps_attention_settings(tmp_path, weights):
    """Forbids that a file loses it on the way to ComfyUI, which uses it."""
    wish = encoded('{"attention": "comfy_kitchen_int8"}')
    save_file({**weights, WISH: wish}, tmp_path / "in.safetensors")
    for int8 in (False, True):
        convert_model(tmp_path / "in.safetensors", tmp_path / "out.safetensors", int8=int8)
        assert torch.equal(load_file(tmp_path / "out.safetensors")[WISH], wish)


def test_attention_settings_of_a_lora_are_named(tmp_path, weights, peft_lora, caplog):
    """Forbids a refusal of such LoRAs, and silence about what is not used of them."""
    wish = {f"diffusion_model.{WISH}": encoded('{"attention": "x"}')}
    save_file(peft_lora, tmp_path / "plain.safetensors")
    save_file(peft_lora | wish, tmp_path / "lora.safetensors")
    layers = load_lora(tmp_path / "lora.safetensors")
    assert layers.keys() == load_lora(tmp_path / "plain.safetensors").keys()
    assert "lora.safetensors sets another kind of attention in 1 layers (x)" in caplog.text


def test_a_bundled_checkpoint_gives_its_diffusion_model(tmp_path, weights):
    """Forbids that a checkpoint saved with its VAE and text encoder is refused for "unexpected" names."""
    bundle = {**prefixed(weights, "model.diffusion_model."), "first_stage_model.conv1.bias": torch.zeros(1)}
    save_file(bundle, tmp_path / "bundle.safetensors")
    assert same(load_state_dict(tmp_path / "bundle.safetensors"), weights)


def test_the_format_follows_from_the_content(tmp_path, weights):
    """Forbids guessing by file name: downloads get renamed."""
    save_file(weights, tmp_path / "renamed.pt")
    torch.save(weights, tmp_path / "renamed.safetensors")
    torch.save(weights, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for name in ("renamed.pt", "renamed.safetensors", "old.bin"):
        assert same(load_state_dict(tmp_path / name), weights), name


def test_weights_or_average_can_be_chosen(tmp_path, weights):
    """Forbids loading the moving average where the reference loads the weights, and a silent substitute for either."""
    average = {name: value + 1 for name, value in weights.items()}
    both = tmp_path / "both.pt"
    torch.save({"generator": prefixed(weights, "model."), "generator_ema": prefixed(average, "model.")}, both)
    assert same(load_state_dict(both), weights)
    assert same(load_state_dict(both, prefer_ema=False), weights)
    assert same(load_state_dict(both, prefer_ema=True), average)
    torch.save({"generator": prefixed(weights, "model.")}, tmp_path / "one.pt")
    assert "no `generator_ema`" in message(load_state_dict, tmp_path / "one.pt", prefer_ema=True)
    save_file(weights, tmp_path / "one.safetensors")
    assert "no `generator_ema`" in message(load_state_dict, tmp_path / "one.safetensors", prefer_ema=True)


# Building


def test_build_model_holds_exactly_the_weights(weights):
    """Forbids parameters left on `meta` or initialised, and a dtype that is not the requested one."""
    model = build_model(weights)
    assert same(model.state_dict(), weights) and not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in build_model(weights, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_build_model_initialises_nothing(weights, monkeypatch):
    """Forbids initialising a model with random weights on the CPU first: 5.7 GB and some seconds for the real one."""
    places = []

    def initialise(tensor, **options):
        places.append(tensor.device.type)
        return tensor

    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", initialise)
    build_model(weights)
    assert set(places) == {"meta"}


def test_build_model_counts_what_does_not_fit(weights):
    """Forbids loading with strict=False: a missing layer would stay random."""
    lost = [name for name in weights if name.startswith("blocks.1.ffn.")]
    broken = {name: value for name, value in weights.items() if name not in lost}
    broken |= {"extra.weight": torch.zeros(1), "head.modulation": torch.zeros(1, 3, 128)}
    text = message(build_model, broken, path="some.pt")
    assert "some.pt" in text
    assert "missing: 4 (blocks.1.ffn.0.bias, blocks.1.ffn.0.weight, blocks.1.ffn.2.bias, ...)" in text
    assert "unexpected: 1 (extra.weight)" in text
    assert "head.modulation [1, 3, 128] instead of [1, 2, 128]" in text


# VAE


@pytest.mark.parametrize("name", ["Wan2.1_VAE.pth", "wan_2.1_vae.safetensors"])
def test_vae_loads_from_both_formats(tmp_path, vae_weights, name):
    """Forbids that the VAE loads from one publisher only."""
    save = save_file if name.endswith("safetensors") else torch.save
    save(vae_weights, tmp_path / name)
    assert same(load_vae(tmp_path / name).state_dict(), vae_weights)
    assert next(load_vae(tmp_path / name, dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16


def test_wrong_vae_files_say_what_they_are(tmp_path, vae_weights, weights):
    """Forbids a strict-load traceback for a file in the VAE's slot."""
    path = tmp_path / "vae.safetensors"
    save_file(weights, path)
    assert "diffusion model; it belongs in models/diffusion_models" in message(load_vae, path)
    save_file({"decoder.conv_in.weight": torch.zeros(1)}, path)
    assert "image VAE" in message(load_vae, path)
    save_file({"decoder.upsamples.0.upsamples.0.residual.0.gamma": torch.zeros(1)}, path)
    assert "Wan 2.2" in message(load_vae, path)
    save_file({"strange": torch.zeros(1)}, path)
    assert "something else; it holds 1 (strange)" in message(load_vae, path)
    save_file({n: w for n, w in vae_weights.items() if not n.startswith("encoder.conv1")}, path)
    assert "missing: 2 (encoder.conv1.bias, encoder.conv1.weight)" in message(load_vae, path)
