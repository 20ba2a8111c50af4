"""LoRA files: loading, alpha, merging, and LoRAs that do not fit."""

import pytest
import torch
from safetensors.torch import save_file

from longlive_core.checkpoints import (
    convert_lora,
    load_lora,
    merge_lora,
)

from .files import message, same


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
