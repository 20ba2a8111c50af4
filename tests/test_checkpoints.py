"""Files of weights: every format that people have loads to the same weights, and every wrong file says what it is."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints import (
    CheckpointError,
    build_model,
    convert_lora,
    convert_model,
    load_lora,
    load_state_dict,
    load_vae,
    merge_lora,
)
from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.vae import WanVAE

from .holding import holding

CONFIG = ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=2, text_dim=24, freq_dim=16)


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return {name: value.detach() for name, value in WanModel(CONFIG).state_dict().items()}


@pytest.fixture(scope="module")
def vae_weights():
    torch.manual_seed(0)
    return WanVAE(dim=4).state_dict()


@pytest.fixture(scope="module")
def peft_lora(weights):
    """Rank 4 on every linear layer of the blocks, as LongLive's lora.pt has it (there rank 256)."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, weight in weights.items():
        if name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2:
            layer = "base_model.model." + name.removesuffix(".weight")
            tensors[f"{layer}.lora_A.weight"] = torch.randn(4, weight.shape[1], generator=generator)
            tensors[f"{layer}.lora_B.weight"] = torch.randn(weight.shape[0], 4, generator=generator)
    return tensors


def prefixed(tensors, prefix):
    return {prefix + name: value for name, value in tensors.items()}


def same(given, expected):
    return given.keys() == expected.keys() and all(torch.equal(given[name], expected[name]) for name in expected)


def message(call, *arguments, **options):
    """The message of the CheckpointError that a call raises."""
    with pytest.raises(CheckpointError) as error:
        call(*arguments, **options)
    return str(error.value)


# Formats


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
    ("config", "said"),
    [
        ('{"attention": "comfy_kitchen_int8"}', "(comfy_kitchen_int8)"),
        (
            '{"attention": [{"method": "comfy_kitchen_sol", "tau": 0.1}]}',
            '([{"method": "comfy_kitchen_sol", "tau": 0.1}])',
        ),
        ("not JSON", "(unreadable)"),
    ],
)
def test_attention_that_a_file_asks_for_is_named(tmp_path, weights, caplog, config, said):
    """Forbids a refusal of files that newer ComfyUIs write, and leaving out in silence what they ask for."""
    save_file(prefixed({**weights, WISH: encoded(config)}, "model.diffusion_model."), tmp_path / "model.safetensors")
    loaded = load_state_dict(tmp_path / "model.safetensors")
    assert same(loaded, weights)
    build_model(loaded)
    (told,) = caplog.records
    assert told.levelname == "WARNING" and "in 1 layers " + said in told.getMessage()


def test_converting_keeps_the_attention_that_a_file_asks_for(tmp_path, weights):
    """Forbids that a file loses it on the way to ComfyUI, which uses it."""
    wish = encoded('{"attention": "comfy_kitchen_int8"}')
    save_file({**weights, WISH: wish}, tmp_path / "in.safetensors")
    for int8 in (False, True):
        convert_model(tmp_path / "in.safetensors", tmp_path / "out.safetensors", int8=int8)
        assert torch.equal(load_file(tmp_path / "out.safetensors")[WISH], wish)


def test_attention_that_a_lora_asks_for_is_named(tmp_path, weights, peft_lora, caplog):
    """Forbids a refusal of such LoRAs, and silence about what is not used of them."""
    wish = {f"diffusion_model.{WISH}": encoded('{"attention": "x"}')}
    save_file(peft_lora, tmp_path / "plain.safetensors")
    save_file(peft_lora | wish, tmp_path / "lora.safetensors")
    layers = load_lora(tmp_path / "lora.safetensors")
    assert layers.keys() == load_lora(tmp_path / "plain.safetensors").keys()
    assert "lora.safetensors asks for attention of another kind in 1 layers (x)" in caplog.text


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


def test_weights_and_average_are_told_apart(tmp_path, weights):
    """Forbids taking the moving average where the reference takes the weights, and a silent substitute for either."""
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


# Files that cannot be read


def test_missing_file_and_folder(tmp_path):
    """Forbids a bare FileNotFoundError or a loader's own words."""
    assert "there is no file" in message(load_state_dict, tmp_path / "nothing.pt")
    assert "is a folder" in message(load_state_dict, tmp_path)


@pytest.mark.parametrize("kept", [0.001, 0.5, 0.999])
def test_truncated_safetensors(tmp_path, weights, kept):
    """Forbids that a broken download is blamed on anything else, wherever it broke off (header, middle, end)."""
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "cut short" in message(load_state_dict, path) and str(path) in message(load_state_dict, path)


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_truncated_pt(tmp_path, weights, kept, new_format):
    """Forbids PyTorch's "failed finding central directory" as the last word."""
    path = tmp_path / "model.pt"
    torch.save({"generator": weights}, path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "cut short" in message(load_state_dict, path)


class Payload:
    """Writes a file when unpickled, as a malicious checkpoint would."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (Path(self.target), "the code ran")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("load", [load_state_dict, load_lora, load_vae])
def test_a_pt_with_code_is_refused_and_does_not_run(tmp_path, load, new_format):
    """Forbids that any loader unpickles without `weights_only`."""
    path, marker = tmp_path / "evil.pt", tmp_path / "marker"
    torch.save({"generator": Payload(marker)}, path, _use_new_zipfile_serialization=new_format)
    assert "refused: it contains code" in message(load, path)
    assert not marker.exists()


def test_a_torchscript_file_is_refused(tmp_path):
    """Forbids a puzzling error for an exported program."""
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/data.pkl", b"")
        archive.writestr("program/constants.pkl", b"")
    assert "refused: it contains code" in message(load_state_dict, tmp_path / "program.pt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\xef\xbb\xbf\n <html>", "a web page"),
        (b"", "is empty (0 bytes)"),
        (b"\x00" * 64, "begins with zeros (64 bytes in all): the download was prepared and not filled"),
        (b"\x01\x02" * 64, "neither a safetensors file nor a PyTorch file"),
        (b'{"error": "unauthorized", "code": 401}', "is a JSON file, not weights (it holds error, code)"),
        (b"Entry not found", 'is a text file, not weights (it begins "Entry not found")'),
        (b"\x1f\x8b\x08\x00", "is packed with gzip; unpack it"),
        (b"Rar!\x1a\x07", "is a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
        (b"PK\x05\x06" + bytes(18), "is an empty zip archive"),
        (b"\x89PNG\r\n\x1a\n", "is a picture (PNG)"),
        (b"\x00\x00\x00\x20ftypisom", "is a clip (MP4 or MOV)"),
        (bytes(1) + b"x" * 256 + b"ustar", "is a tar archive"),
    ],
)
def test_what_is_downloaded_by_accident_is_named(tmp_path, content, expected):
    """Forbids "header too large" for a saved login page."""
    (tmp_path / "model.safetensors").write_bytes(content)
    assert expected in message(load_state_dict, tmp_path / "model.safetensors")


def test_an_ordinary_zip_is_named(tmp_path):
    """Forbids a pickle error for a zipped download."""
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model.safetensors", b"x")
    assert "unpack it" in message(load_state_dict, tmp_path / "model.zip")


# Files that are something else


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["decoder.middle.0.residual.0.gamma"], "models/vae"),
        (["decoder.upsamples.0.upsamples.0.residual.0.gamma"], "VAE of Wan 2.2"),
        (["token_embedding.weight", "blocks.0.attn.q.weight"], "models/text_encoders"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], "models/text_encoders"),
        (["diffusion_model.blocks.0.self_attn.q.lora_A.weight"], "models/loras"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "Stable Diffusion"),
        (["double_blocks.0.img_attn.qkv.weight"], "Flux"),
        (["decoder.conv_in.weight"], "image VAE"),
        (["text_model.encoder.layers.0.mlp.fc1.weight"], "CLIP"),
        (["something.weight", "else.weight"], "2 (else.weight, something.weight)"),
    ],
)
def test_a_file_that_is_no_diffusion_model_says_what_it_is(tmp_path, names, expected):
    """Forbids a list of missing keys for a file in the wrong slot."""
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "other.safetensors")
    text = message(load_state_dict, tmp_path / "other.safetensors")
    assert "no diffusion model" in text and expected in text


def test_longlive_lora_given_as_model(tmp_path, peft_lora):
    """Forbids the commonest mix-up: lora.pt where longlive_base.pt belongs."""
    torch.save({"generator_lora": peft_lora, "critic_lora": peft_lora}, tmp_path / "lora.pt")
    assert "LoRA" in message(load_state_dict, tmp_path / "lora.pt")
    torch.save(peft_lora, tmp_path / "bare.pt")
    assert "LoRA" in message(load_state_dict, tmp_path / "bare.pt")


def test_contents_without_weights(tmp_path):
    """Forbids an AttributeError for a .pt that holds no dictionary of tensors."""
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    assert "not a dictionary" in message(load_state_dict, tmp_path / "tensor.pt")
    torch.save({"step": 3}, tmp_path / "step.pt")
    assert "holds no weights" in message(load_state_dict, tmp_path / "step.pt")


def patch(channels, width=8):
    return torch.zeros(width, channels, 1, 2, 2)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"patch_embedding.weight": patch(16, 5120)}, "Wan 14B"),
        ({"patch_embedding.weight": patch(36)}, "36 input channels"),
        ({"patch_embedding.weight": patch(48)}, "Wan 2.2 5B"),
        ({"patch_embedding.weight": patch(32)}, "32 input channels"),
        ({"img_emb.proj.0.weight": torch.zeros(1)}, "I2V"),
        ({"vace_patch_embedding.weight": torch.zeros(1)}, "VACE"),
        ({"control_adapter.conv.weight": torch.zeros(1)}, "Camera"),
        ({"blocks.0.ffn.0.scale_weight": torch.zeros(1)}, "quantised"),
        ({"blocks.0.ffn.0.comfy_quant": torch.zeros(1)}, "quantised"),
    ],
)
def test_relatives_in_the_wan_family_are_named(tmp_path, weights, changes, expected):
    """Forbids a shape error deep in the model for Wan models that LongLive does not run on."""
    save_file({**weights, **changes}, tmp_path / "relative.safetensors")
    assert expected in message(load_state_dict, tmp_path / "relative.safetensors")


def test_a_model_without_its_size_is_incomplete(tmp_path, weights):
    """Forbids a KeyError where the tensors that tell the size are missing."""
    save_file({n: w for n, w in weights.items() if n != "text_embedding.0.weight"}, tmp_path / "part.safetensors")
    assert "lacks 1 (text_embedding.0.weight)" in message(load_state_dict, tmp_path / "part.safetensors")


# Building


def test_build_model_holds_exactly_the_weights(weights):
    """Forbids parameters left on `meta` or initialised, and a dtype that is not the one asked for."""
    model = build_model(weights)
    assert same(model.state_dict(), weights) and not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in build_model(weights, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_build_model_initialises_nothing(weights, monkeypatch):
    """Forbids a model that is made with random weights on the CPU first: 5.7 GB and some seconds for the real one."""
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


# LoRA


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("default", ["", ".default"])
@pytest.mark.parametrize("prefix", ["base_model.model.", "base_model.model.model.", "diffusion_model.", ""])
def test_lora_names(tmp_path, weights, peft_lora, prefix, default, nested):
    """Forbids that one of PEFT's or ComfyUI's spellings drops layers."""
    renamed = {
        name.replace("base_model.model.", prefix).replace(".weight", f"{default}.weight"): value
        for name, value in peft_lora.items()
    }
    torch.save({"generator_lora": renamed, "step": 1} if nested else renamed, tmp_path / "lora.pt")
    layers = load_lora(tmp_path / "lora.pt")
    assert {f"{layer}.weight" for layer in layers} <= weights.keys() and len(layers) == len(peft_lora) // 2 == 20


def test_merge_is_weight_plus_scaled_product(tmp_path, weights, peft_lora):
    """Forbids a wrong alpha/rank, swapped factors, rounding before the sum, and a changed input."""
    torch.save(peft_lora, tmp_path / "lora.pt")
    before = {name: value.clone() for name, value in weights.items()}
    merged = merge_lora(weights, load_lora(tmp_path / "lora.pt", alpha=8), strength=0.5)
    assert same(weights, before)
    for name, weight in weights.items():
        layer = "base_model.model." + name.removesuffix(".weight")
        down, up = peft_lora.get(f"{layer}.lora_A.weight"), peft_lora.get(f"{layer}.lora_B.weight")
        expected = weight if down is None else weight + 0.5 * 8 / 4 * up @ down
        torch.testing.assert_close(merged[name], expected)


def test_merge_keeps_the_dtype_and_adds_in_float32(weights, tmp_path, peft_lora):
    """Forbids a product rounded to bfloat16 before it is added."""
    torch.save(peft_lora, tmp_path / "lora.pt")
    low = {name: value.bfloat16() for name, value in weights.items()}
    lora = load_lora(tmp_path / "lora.pt")
    exact = merge_lora({name: value.float() for name, value in low.items()}, lora)
    assert same(merge_lora(low, lora), {name: value.bfloat16() for name, value in exact.items()})


def test_alpha_defaults_to_the_rank_and_a_stated_one_holds(tmp_path, peft_lora):
    """Forbids another scale than the official alpha 256 at rank 256, and an alpha argument that is ignored."""
    torch.save(peft_lora, tmp_path / "lora.pt")
    assert {part.alpha for part in load_lora(tmp_path / "lora.pt").values()} == {4.0}
    convert_lora(tmp_path / "lora.pt", tmp_path / "comfy.safetensors", alpha=8)
    assert {part.alpha for part in load_lora(tmp_path / "comfy.safetensors").values()} == {8.0}
    assert "states alpha 8" in message(load_lora, tmp_path / "comfy.safetensors", alpha=4)


def test_lora_files_that_do_not_fit(tmp_path, weights, peft_lora):
    """Forbids a partly applied LoRA: every layer fits or none is merged."""
    path = tmp_path / "lora.safetensors"
    save_file(weights, path)
    assert "is not a LoRA" in message(load_lora, path)
    save_file({**peft_lora, "base_model.model.blocks.0.self_attn.q.dora_scale": torch.ones(1)}, path)
    assert "DoRA, which is not merged here: 1 (base_model.model.blocks.0.self_attn.q.dora_scale)" in message(
        load_lora, path
    )
    save_file({n: t for n, t in peft_lora.items() if "blocks.0.ffn.0.lora_B" not in n}, path)
    assert "missing for 1 (blocks.0.ffn.0) layers" in message(load_lora, path)
    save_file({**peft_lora, "base_model.model.blocks.0.ffn.0.lora_B.weight": torch.ones(32, 5)}, path)
    assert "inconsistent at blocks.0.ffn.0" in message(load_lora, path)
    save_file({name.replace("blocks.1.", "blocks.7."): tensor for name, tensor in peft_lora.items()}, path)
    text = message(merge_lora, weights, load_lora(path))
    assert "10 of its 20 layers" in text and "blocks.7.cross_attn.k" in text
    wider = {name: torch.cat([t, t], 1) if "lora_A" in name else t for name, t in peft_lora.items()}
    save_file(wider, path)
    assert "another size" in message(merge_lora, weights, load_lora(path))


# Conversion


def test_convert_model_writes_what_unetloader_reads(tmp_path, weights):
    """Forbids a prefix, a dtype other than asked, or a converted file that does not load back."""
    torch.save({"generator": prefixed(weights, "model.")}, tmp_path / "base.pt")
    target = convert_model(tmp_path / "base.pt", tmp_path / "out.safetensors")
    assert same(load_file(target), {name: value.bfloat16() for name, value in weights.items()})
    with safe_open(target, "pt") as file:
        assert file.metadata()["source_file"] == "base.pt" and len(file.metadata()["source_sha256"]) == 64
    kept = convert_model(tmp_path / "base.pt", tmp_path / "kept.safetensors", dtype=None)
    assert same(load_state_dict(kept), weights)


def test_a_model_in_use_is_not_replaced(tmp_path, weights, monkeypatch):
    """Forbids a traceback where a program holds the old file (Windows), and half a file beside it."""
    source, target = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    save_file(weights, source)
    target.write_bytes(b"old")
    with holding(monkeypatch, target), pytest.raises(CheckpointError, match="cannot be written .in use.; close what"):
        convert_model(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.safetensors", "out.safetensors"]
    assert target.read_bytes() == b"old"


def test_convert_model_merges_the_lora(tmp_path, weights, peft_lora):
    """Forbids a LoRA left beside the weights, or added after they were rounded."""
    save_file(weights, tmp_path / "base.safetensors")
    torch.save(peft_lora, tmp_path / "lora.pt")
    target = convert_model(
        tmp_path / "base.safetensors", tmp_path / "out.safetensors", lora=tmp_path / "lora.pt", lora_alpha=8
    )
    expected = merge_lora(weights, load_lora(tmp_path / "lora.pt", 8))
    assert same(load_file(target), {name: value.bfloat16() for name, value in expected.items()})
    with safe_open(target, "pt") as file:
        assert file.metadata()["lora_file"] == "lora.pt" and file.metadata()["lora_alpha"] == "8"


def test_convert_lora_writes_only_keys_that_comfyui_reads(tmp_path, weights, peft_lora):
    """Forbids "lora key not loaded": ComfyUI looks for `diffusion_model.<layer>` with these three endings."""
    torch.save({"generator_lora": peft_lora}, tmp_path / "lora.pt")
    written = load_file(convert_lora(tmp_path / "lora.pt", tmp_path / "out.safetensors", alpha=8))
    layers = [f"diffusion_model.{name.removesuffix('.weight')}" for name in weights if name.endswith(".weight")]
    known = {layer + ending for layer in layers for ending in (".lora_A.weight", ".lora_B.weight", ".alpha")}
    assert written.keys() <= known and len(written) == 60
    for layer in (name.removesuffix(".alpha") for name in written if name.endswith(".alpha")):
        assert written[f"{layer}.alpha"].item() == 8
        source = layer.replace("diffusion_model.", "base_model.model.")
        assert torch.equal(written[f"{layer}.lora_A.weight"], peft_lora[f"{source}.lora_A.weight"])


def test_a_failed_conversion_leaves_the_old_file(tmp_path, weights, monkeypatch):
    """Forbids half a file under the final name, and rubbish beside it."""
    save_file(weights, tmp_path / "base.safetensors")
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"old")

    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("longlive_core.checkpoints.tensor_files.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        convert_model(tmp_path / "base.safetensors", target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.safetensors", "out.safetensors"]


def test_outputs_that_cannot_work_are_refused(tmp_path, weights):
    """Forbids overwriting the source, a name ComfyUI does not list, and an incomplete model written as a good one."""
    source = tmp_path / "base.safetensors"
    save_file(weights, source)
    assert "the output is the input" in message(convert_model, source, source)
    other = tmp_path / "other.safetensors"
    assert "the output is the input" in message(convert_model, source, other, lora=other)
    assert "must end in .safetensors" in message(convert_model, source, tmp_path / "out.pt")
    assert "make it first" in message(convert_model, source, tmp_path / "no" / "out.safetensors")
    save_file({n: w for n, w in weights.items() if n != "blocks.1.modulation"}, source)
    assert "missing: 1 (blocks.1.modulation)" in message(convert_model, source, tmp_path / "out.safetensors")


def test_a_header_with_nonsense_is_damaged(tmp_path):
    """Forbids a KeyError for a header that is JSON and yet not one of safetensors."""
    header = json.dumps({"weight": {"dtype": "F32"}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "header cannot be read" in message(load_state_dict, tmp_path / "model.safetensors")


@pytest.mark.parametrize("first", [0x80, ord("<"), ord("P"), ord("v")])
def test_a_header_length_is_no_magic_number(tmp_path, weights, first):
    """Forbids that one safetensors file in 256 is taken for a pickle or a web page, for its header's length."""
    save_file(weights, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    longer = length + (first - length) % 256
    header = content[8 : 8 + length].ljust(longer)
    (tmp_path / "model.safetensors").write_bytes(longer.to_bytes(8, "little") + header + content[8 + length :])
    assert same(load_state_dict(tmp_path / "model.safetensors"), weights)
