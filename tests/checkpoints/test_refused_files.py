"""Files that cannot be read, or that are something else: each is refused with its name."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from longlive_core.checkpoints import (
    load_lora,
    load_state_dict,
    load_vae,
)

from .files import message, same


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
        (b"\x00" * 64, "begins with zeros (64 bytes in all): the download allocated the file and did not fill it"),
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


def test_a_header_with_nonsense_is_damaged(tmp_path):
    """Forbids a KeyError for a header that is JSON and yet not one of safetensors."""
    header = json.dumps({"weight": {"dtype": "F32"}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "header cannot be read" in message(load_state_dict, tmp_path / "model.safetensors")


@pytest.mark.parametrize("first", [0x80, ord("<"), ord("P"), ord("v")])
def test_a_header_length_is_no_magic_number(tmp_path, weights, first):
    """Forbids that one safetensors file in 256 is treated as a pickle or a web page because of its header's length."""
    save_file(weights, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    longer = length + (first - length) % 256
    header = content[8 : 8 + length].ljust(longer)
    (tmp_path / "model.safetensors").write_bytes(longer.to_bytes(8, "little") + header + content[8 + length :])
    assert same(load_state_dict(tmp_path / "model.safetensors"), weights)


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
