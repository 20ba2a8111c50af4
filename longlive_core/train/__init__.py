"""LongLive's training: from a model of short clips to a long, switchable, real-time one.

Map of this package, in the order in which a model is trained:

- teacher: `bidirectional` (forward, guidance, sampling), `flow_matching` (loss; Lipman et al. 2023), `teacher_clips`
  (clips that a teacher samples).
- `causal_start/`: few-step causal student by teacher forcing (Causal Forcing, Causal Forcing++) instead of
  Self-Forcing's ODE regression.
- `distillation/`: DMD (Yin et al. 2024), self-forcing, and LongLive's streaming long tuning.
- `data/`: file formats of prompts, prompt pairs and clips; shuffled draws; follow-ups by an instruction model.

Shared by all stages: `config` and `settings` (the YAML file), `configs/` (ready-made ones), `models` (load and build a
stage), `stage` (the protocol of a stage), `run` (the training loop), `checkpoint`, `optimiser`, `lora`, `parallel` and
`trainable` (FSDP2, activation checkpointing), `addressed_random` (reproducible random numbers), `packages` (optional
dependencies).
"""
