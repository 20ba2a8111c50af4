"""Files of weights that people have and that do not belong where they are put: names and shapes of the real ones, made
of tensors as small as recognising them allows."""

import torch


def _small(*names, **shapes):
    return {**{name: torch.zeros(1) for name in names}, **{name: torch.zeros(shape) for name, shape in shapes.items()}}


def wan(width=8, channels=16, layers=1, **parts):
    """A Wan diffusion model in which only the patch embedding has its real shape."""
    blocks = {f"blocks.{layer}.ffn.0.weight": torch.zeros(1) for layer in range(layers)}
    return {
        "patch_embedding.weight": torch.zeros(width, channels, 1, 2, 2),
        **_small("text_embedding.0.weight", "time_embedding.0.weight", "head.head.weight", "head.modulation"),
        **blocks,
        **_small(*parts.values()),
    }


# name of the file -> (tensors, words of the message)
MODELS = {
    "sd15.safetensors": (_small("model.diffusion_model.input_blocks.0.0.weight"), "a Stable Diffusion model"),
    "wan_14b.safetensors": (wan(width=5120, layers=40), "Wan 14B (width 5120, 40 layers); LongLive's weights and LoRA"),
    "wan_i2v.safetensors": (wan(channels=36), "Wan image-to-video (I2V, 36 input channels); LongLive takes 16"),
    "wan_i2v_clip.safetensors": (wan(part="img_emb.proj.0.weight"), "Wan image-to-video (I2V), which LongLive"),
    "wan_vace.safetensors": (wan(part="vace_blocks.0.before_proj.weight"), "Wan VACE, which LongLive does not run on"),
    "longlive2.safetensors": (wan(width=3072, channels=48), "Wan 2.2 5B (48 input channels; LongLive 2.0 is based on"),
    "flux.safetensors": (_small("double_blocks.0.img_attn.qkv.weight"), "an SD3, Flux or HunyuanVideo model"),
}
VAES = {
    "sdxl_vae.safetensors": (_small("decoder.conv_in.weight"), "is not Wan 2.1's VAE: it is an image VAE"),
    "wan22_vae.safetensors": (
        _small("decoder.upsamples.0.upsamples.0.residual.0.gamma"),
        "it is the VAE of Wan 2.2 (48 channels); LongLive needs Wan 2.1's (wan_2.1_vae.safetensors)",
    ),
    "model_as_vae.safetensors": (wan(), "it is a Wan diffusion model; it belongs in models/diffusion_models"),
}
TEXT_ENCODERS = {
    "clip_l.safetensors": (_small("text_model.encoder.layers.0.mlp.fc1.weight"), "a CLIP model, not one of Wan 2.1"),
    "vae_as_text.safetensors": (_small("decoder.middle.0.residual.0.gamma"), "Wan 2.1's VAE; it belongs in models/vae"),
}


def lora(layers, width, prefix="diffusion_model.", rank=2):
    """A LoRA on square layers, in ComfyUI's names."""
    tensors = {}
    for layer in layers:
        tensors[f"{prefix}{layer}.lora_A.weight"] = torch.ones(rank, width)
        tensors[f"{prefix}{layer}.lora_B.weight"] = torch.ones(width, rank)
    return tensors


def loras(width):
    """For a model of that width: name of the file -> (tensors, words of the message)."""
    kohya = {
        f"lora_unet_down_blocks_0_attentions_0_proj_in.{part}.weight": torch.ones(2, 2)
        for part in ("lora_down", "lora_up")
    }
    return {
        "sdxl_lora.safetensors": (kohya, "none of its 2 entries is of Wan 2.1, but of Stable Diffusion (SD or SDXL)"),
        "other_lora.safetensors": (
            lora(["transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_q"], width),
            "none of its 4 entries is of Wan 2.1, but of Flux, SD3 or Qwen-Image: 4 (diffusion_model.transformer",
        ),
        "partly_lora.safetensors": (
            lora(["blocks.0.self_attn.q", "blocks.77.self_attn.q"], width),
            "fits this model only in part: 1 of its 2 layers have no weight in it: 1 (blocks.77.self_attn.q)",
        ),
        "wider_lora.safetensors": (lora(["blocks.0.self_attn.q"], width + 1), "was made for a model of another size"),
        "no_lora.safetensors": (_small("something.weight"), "is not a LoRA: it has no lora_A/lora_B weights"),
    }
