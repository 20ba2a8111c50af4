"""LongLive's engine: causal, chunk-by-chunk video diffusion on Wan 2.1, without any import of ComfyUI."""
