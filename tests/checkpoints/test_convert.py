"""Conversion: what is written, read back and refused."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from longlive_core.checkpoints import (
    CheckpointError,
    convert_lora,
    convert_model,
    load_lora,
    load_state_dict,
    merge_lora,
)

from ..holding import holding
from .files import message, prefixed, same


def test_convert_model_writes_what_unetloader_reads(tmp_path, weights):
    """Forbids a prefix, a dtype other than the requested one, or a converted file that does not load back."""
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
    with holding(monkeypatch, target), pytest.raises(CheckpointError, match="in use.; close the program"):
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
    assert "create it first" in message(convert_model, source, tmp_path / "no" / "out.safetensors")
    save_file({n: w for n, w in weights.items() if n != "blocks.1.modulation"}, source)
    assert "missing: 1 (blocks.1.modulation)" in message(convert_model, source, tmp_path / "out.safetensors")
