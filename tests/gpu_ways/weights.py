"""Small random Wan weights in every form that a file has, and what the numbers in it stand for.

Heads of 128 and a text width of 4096 are what ComfyUI implies for a Wan 2.1 file; all else is small.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from longlive_core.config import ModelConfig
from longlive_core.model import WanModel
from longlive_core.quant import dequantise, quantise_state_dict
from longlive_core.quant.layout import MARK, SCALE
from longlive_core.vae import WanVAE

from . import ggml

CONFIG = ModelConfig(dim=256, ffn_dim=256, num_heads=2, num_layers=2, text_dim=4096, freq_dim=256)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FP8, FP8_MAX = torch.float8_e4m3fn, 448.0
LORA_LAYERS = (
    "blocks.0.self_attn.q",
    "blocks.0.cross_attn.v",
    "blocks.1.self_attn.o",
    "blocks.1.ffn.0",
    "text_embedding.2",
)
RANK = 4
LOUDNESS, VAE_LOUDNESS = 1e4, 1.2e4


def exact() -> dict[str, Tensor]:
    """Weights in float32 on whose every part the film depends visibly. The biases survive every form unharmed."""
    torch.manual_seed(0)
    module = WanModel(CONFIG).requires_grad_(False)
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
        elif name.endswith(".bias"):
            parameter.copy_(parameter.to(FP8).float())  # ComfyUI keeps the biases of a scaled fp8 file in fp8
    return {name: weight.clone() for name, weight in module.state_dict().items()}


def loud() -> dict[str, Tensor]:
    """Weights as large as float16 holds them well, whose residual stream it does not hold.

    In Wan 2.1 too the stream grows from block to block, into the thousands, and single channels far beyond the others.
    Here each feed-forward gives up to 40,000, which fits; times its gate, and added up, it passes 65,504, where float16
    ends. bfloat16 and float32 end at 3e38.
    """
    weights = exact()
    for block in range(CONFIG.num_layers):
        for part in ("weight", "bias"):
            weights[f"blocks.{block}.ffn.2.{part}"] *= LOUDNESS
    return weights


def write(folder: Path, form: str) -> Path:
    """A file in one of the forms fp32, bf16, fp16, loud (fp16), fp8 (scaled), fp8_layers (newer marks), int8 (ours)."""
    path = folder / f"{form}.safetensors"
    if not path.exists():
        save_file({name: tensor.contiguous() for name, tensor in in_form(form).items()}, path)
    return path


def in_form(form: str) -> dict[str, Tensor]:
    """What a file of this form holds."""
    if form == "loud":
        return {name: weight.half() for name, weight in loud().items()}
    if form in DTYPES:
        return {name: weight.to(DTYPES[form]) for name, weight in exact().items()}
    if form == "int8":
        return quantise_state_dict({name: weight.bfloat16() for name, weight in exact().items()})
    if form.startswith("gguf"):
        return {
            name: ggml.pack(weight) if _is_block_matrix(name, weight) else weight for name, weight in exact().items()
        }
    return _scaled_fp8(layers=form == "fp8_layers")


def _is_block_matrix(name: str, weight: Tensor) -> bool:
    return name.startswith("blocks.") and weight.ndim == 2


def _scaled_fp8(layers: bool) -> dict[str, Tensor]:
    """As ComfyUI's `_fp8_scaled` files: every linear layer in fp8 with one scale; two numbers in the marker say that
    the inputs are not quantised. layers: as newer files, a mark and a `weight_scale` per layer."""
    mark = torch.tensor(
        list(json.dumps({"format": "float8_e4m3fn", "full_precision_matrix_mult": True}).encode()), dtype=torch.uint8
    )
    made = {} if layers else {"scaled_fp8": torch.zeros(2, dtype=FP8)}
    for name, weight in exact().items():
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and weight.ndim == 2:
            scale = weight.abs().max() / FP8_MAX
            made[name] = (weight / scale).to(FP8)
            made[f"{layer}.weight_scale" if layers else f"{layer}.scale_weight"] = scale
            made |= {f"{layer}.comfy_quant": mark.clone()} if layers else {}
        else:
            made[name] = weight.half()
    return made


def meant(form: str) -> dict[str, Tensor]:
    """Return the float32 weights that a file of this form represents."""
    held, found = in_form(form), {}
    for name, tensor in held.items():
        layer = name.removesuffix(".weight")
        if name.endswith((MARK, SCALE, ".scale_weight")) or name == "scaled_fp8":
            continue
        scale = held.get(f"{layer}.scale_weight", held.get(f"{layer}.weight_scale"))
        if tensor.dtype == torch.int8:
            found[name] = dequantise(tensor, scale)
        elif isinstance(tensor, ggml.Packed):
            found[name] = ggml.unpack(tensor)
        else:
            found[name] = tensor.float() if scale is None else tensor.float() * scale
    return found


def lora() -> dict[str, Tensor]:
    """A LoRA in the names of ComfyUI's loaders, large enough that the film without it is another one."""
    generator, made = torch.Generator().manual_seed(1), {}
    for layer in LORA_LAYERS:
        rows, columns = exact_shapes()[f"{layer}.weight"]
        made[f"diffusion_model.{layer}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        made[f"diffusion_model.{layer}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator) * 0.03
    return made


def with_lora(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """float32 weights with that LoRA in them."""
    merged, parts = dict(weights), lora()
    for layer in LORA_LAYERS:
        down, up = (parts[f"diffusion_model.{layer}.lora_{part}.weight"] for part in "AB")
        merged[f"{layer}.weight"] = weights[f"{layer}.weight"] + up @ down
    return merged


def exact_shapes() -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: weight.shape for name, weight in WanModel(CONFIG).state_dict().items()}


def write_vae(folder: Path, loud: bool = False) -> Path:
    """loud: what its decoder's blocks add up is so large that the squares in its norms do not fit into float16."""
    path = folder / f"vae{'_loud' if loud else ''}.safetensors"
    if not path.exists():
        torch.manual_seed(2)
        vae = WanVAE(dim=4).requires_grad_(False)
        blocks = [part for part in vae.decoder.modules() if hasattr(part, "residual")]
        layers = [vae.decoder.conv1, *(block.residual[-1] for block in blocks)]
        for layer in layers if loud else ():
            layer.weight.mul_(VAE_LOUDNESS)
            layer.bias.mul_(VAE_LOUDNESS)
        save_file(vae.state_dict(), path)
    return path
