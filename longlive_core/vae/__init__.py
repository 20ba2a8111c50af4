"""Wan 2.1's causal 3D VAE: the module under its official names, and streaming encoding and decoding with it."""

from .module import LATENTS_MEAN, LATENTS_STD, WanVAE, channels_last
from .streaming import StreamingDecoder, decode, encode

__all__ = ["LATENTS_MEAN", "LATENTS_STD", "StreamingDecoder", "WanVAE", "channels_last", "decode", "encode"]
