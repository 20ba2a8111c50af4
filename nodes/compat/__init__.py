"""All code that depends on ComfyUI's version or internals. Everything else in `nodes` uses `comfy_api.latest` only.

    node_schema        declare nodes and inputs; arguments that only newer versions know
    loading            files -> MODEL, CLIP, VAE
    running            our forwards over a MODEL and a VAE; memory, cancelling
    latents            pictures and LATENT <-> the model's latents
    forward            the causal forward over a MODEL: its attention, compiled blocks, guidance
    patches            what other nodes put on a MODEL, VAE or CLIP, and which of it has an effect
    int8               Quantize INT8, and an INT8 layer for versions without one
    weights            read the weights of a MODEL, CLIP or VAE as they were loaded
    identity           names for a MODEL, CLIP or VAE, from their weights and patches
    identity_earlier   the names that earlier versions of this pack gave them
    text               encode prompts with a CLIP
    queued_prompt      the queued prompt while ComfyUI validates it
    server             routes, messages to the browser, who queued the prompt

Written against ComfyUI 0.3.75. What newer versions change, and why it does not matter here:
- arguments: those of NEWER_ARGUMENTS are passed only where the signature has them;
- the interrupt is a BaseException from 0.20 on: one place catches it by name (`Cancelled`), to keep the film rendered
  so far; everything else cleans up in `finally` and `with`;
- weights may be absent, elsewhere or quantised until a module runs (dynamic VRAM, 0.12): we call forwards only, and
  every patcher created here says how to create it again (`cached_patcher_init`);
- the VAE's decoder takes other groups of frames and returns a list (0.18): we call its layers, never its forward.
"""

from . import forward, identity, identity_earlier, int8, patches, queued_prompt, server, text, weights
from .latents import LATENT_CHANNELS, as_latent, encode_clip, latent_size, normalised
from .loading import DTYPES, load_clip, load_model, load_vae, make_clip, model_of_weights, quantise_model
from .node_schema import refuse_missing, refuse_removed, schema, seed_widget, supported, widget
from .running import (
    Cancelled,
    cancellable,
    causal_model,
    check_cancelled,
    clip_beside,
    load_for_run,
    load_vae_for_decoding,
    memory_for_run,
    metadata_wanted,
    preset_of,
    release_memory,
    streaming_decoder,
)

__all__ = [
    "DTYPES",
    "LATENT_CHANNELS",
    "Cancelled",
    "as_latent",
    "cancellable",
    "causal_model",
    "check_cancelled",
    "clip_beside",
    "encode_clip",
    "forward",
    "identity",
    "identity_earlier",
    "int8",
    "latent_size",
    "load_clip",
    "load_for_run",
    "load_model",
    "load_vae",
    "load_vae_for_decoding",
    "make_clip",
    "memory_for_run",
    "metadata_wanted",
    "model_of_weights",
    "normalised",
    "patches",
    "preset_of",
    "quantise_model",
    "queued_prompt",
    "refuse_missing",
    "refuse_removed",
    "release_memory",
    "schema",
    "seed_widget",
    "server",
    "streaming_decoder",
    "supported",
    "text",
    "weights",
    "widget",
]
