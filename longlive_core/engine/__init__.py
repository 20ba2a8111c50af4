"""The causal rollout: noise, schedule, KV cache with frame sink, recache, restoring a cache from stored latents."""
