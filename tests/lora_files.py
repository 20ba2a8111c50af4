"""LoRA files as trainers write them: for every naming the tensors of a file, with the same changes."""

import torch

RANK, ALPHA = 4, 8.0
LAYERS = (
    "self_attn.q",
    "self_attn.k",
    "self_attn.v",
    "self_attn.o",
    "cross_attn.q",
    "cross_attn.k",
    "cross_attn.v",
    "cross_attn.o",
    "ffn.0",
    "ffn.2",
)
OUTSIDE = (
    "text_embedding.0",
    "text_embedding.2",
    "time_embedding.0",
    "time_embedding.2",
    "time_projection.1",
    "head.head",
)

DIFFUSERS = {
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.o": "attn2.to_out.0",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    **{f"self_attn.{letter}": f"attn1.to_{letter}" for letter in "qkv"},
    **{f"cross_attn.{letter}": f"attn2.to_{letter}" for letter in "qkv"},
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
}


def diffusers(layer):
    """Wan's name -> diffusers'."""
    if not layer.startswith("blocks."):
        return DIFFUSERS[layer]
    block, number, part = layer.split(".", 2)
    return f"{block}.{number}.{DIFFUSERS[part]}"


def same(layer):
    return layer


def flat(layer):
    return layer.replace(".", "_")


def flat_but_last(layer):
    """As the field has it: `blocks_0.self_attn.q`."""
    return layer.replace("blocks.", "blocks_", 1)


def flat_diffusers(layer):
    return flat(diffusers(layer))


def processors(layer):
    """Older diffusers: attention layers in a processor, the LoRA's name after an underscore."""
    return diffusers(layer).replace("attn1.", "attn1.processor.").replace("attn2.", "attn2.processor.")


def dollars(layer):
    return diffusers(layer).replace(".", "$$")


AB, DOWN_UP = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
DEFAULT = (".lora_A.default.weight", ".lora_B.default.weight")

# naming -> (prefix, spelling of the layer, endings of down and up, whether the file states alpha)
NAMINGS = {
    "kohya": ("lora_unet_", flat, DOWN_UP, True),
    "kohya_compiled": ("lora_unet__orig_mod_", flat, DOWN_UP, True),
    "kohya_dotted": ("lora_unet_", flat_but_last, DOWN_UP, True),
    "musubi": ("lora_unet_", flat, DOWN_UP, True),
    "videox_fun": ("lora_unet__", flat, DOWN_UP, True),
    "kohya_on_diffusers": ("lora_unet_", flat_diffusers, DOWN_UP, True),
    "onetrainer": ("lora_transformer_", flat_diffusers, DOWN_UP, True),
    "lycoris": ("lycoris_", flat, DOWN_UP, True),
    "simpletuner_lycoris": ("lycoris_", flat_diffusers, DOWN_UP, True),
    "diffusers": ("transformer.", diffusers, AB, False),
    "diffusers_bare": ("", diffusers, AB, False),
    "diffusers_adapter": ("transformer.", diffusers, (".lora_A.style.weight", ".lora_B.style.weight"), False),
    "diffusers_older": ("transformer.", diffusers, (".lora.down.weight", ".lora.up.weight"), False),
    "diffusers_oldest": ("unet.", processors, ("_lora.down.weight", "_lora.up.weight"), False),
    "diffusers_linear": (
        "transformer.",
        diffusers,
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
        False,
    ),
    "diffsynth": ("", same, DEFAULT, False),
    "diffsynth_pipe": ("pipe.dit.", same, DEFAULT, False),
    "peft": ("base_model.model.", same, AB, False),
    "peft_diffusers": ("base_model.model.", diffusers, AB, False),
    "peft_wrapped": ("base_model.model.model.", same, DEFAULT, False),
    "fsdp": ("base_model.model.model._fsdp_wrapped_module.", same, DEFAULT, False),
    "ddp": ("module.", same, AB, False),
    "diffusion_pipe": ("diffusion_model.", same, AB, False),
    "comfyui": ("diffusion_model.", same, DOWN_UP, True),
    "ai_toolkit": ("diffusion_model.", same, AB, False),
    "ai_toolkit_dollars": ("transformer$$", dollars, AB, False),
    "wan2gp": ("diffusion_model.", same, DOWN_UP, True),
    "bare_factors": ("diffusion_model.", same, (".lora_A", ".lora_B"), False),
}

# Those that ComfyUI's own LoRA loader reads as they are; of all others it loads no key.
COMFYUI_READS = {"kohya", "musubi", "diffusion_pipe", "comfyui", "ai_toolkit", "wan2gp", "bare_factors"}


def changes(weights, seed=3, layers=LAYERS, outside=OUTSIDE):
    """(down, up) by Wan's layer name, for a model's weights."""
    generator = torch.Generator().manual_seed(seed)
    blocks = sorted({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    names = [f"blocks.{block}.{layer}" for block in blocks for layer in layers] + list(outside)
    made = {}
    for name in names:
        rows, columns = weights[f"{name}.weight"].shape
        made[name] = (torch.randn(RANK, columns, generator=generator), torch.randn(rows, RANK, generator=generator))
    return made


def lora_file(naming, made):
    """The tensors of a file in a naming, of (down, up) by layer."""
    prefix, spelled, (down, up), alpha = NAMINGS[naming]
    tensors = {}
    for layer, (first, second) in made.items():
        name = prefix + spelled(layer)
        tensors |= {name + down: first, name + up: second}
        if alpha:
            tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    return tensors


def by_hand(weights, naming, made, strength=1.0):
    """The merged weights, computed plainly in float32."""
    scale = ALPHA / RANK if NAMINGS[naming][3] else 1.0
    merged = {name: weight.clone() for name, weight in weights.items()}
    for layer, (down, up) in made.items():
        merged[f"{layer}.weight"] += strength * scale * (up @ down)
    return merged
