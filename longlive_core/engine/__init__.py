"""The causal rollout: from prompts to latent chunks, with noise, schedule, KV cache, prompt switches and resuming.

In the order of calls: `prompts.py` embeds and mixes prompts; `rollout.py` renders chunk after chunk; `shot.py` turns a
prompt into cached keys (`Shot.switch`) and denoises a chunk; `cache.py` holds the keys; `restore.py` rebuilds them.
"""
