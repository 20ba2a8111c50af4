"""The causal start: turn a bidirectional teacher into a causal student of few denoising steps.

- `teacher_forcing`: attention over clean and noisy chunks in one forward pass.
- `losses`: autoregressive flow matching and causal consistency distillation (Causal Forcing++, Zhu et al. 2026).
- `causal_stage`: one training step, and the state of the stage.
"""
