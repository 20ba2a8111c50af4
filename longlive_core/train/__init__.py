"""LongLive's training: from a model of short clips to a long, switchable, real-time one.

One file per idea. `bidirectional` and `flow`: the teacher; `teacher_forcing` and `causal_start`: the causal start;
`self_forcing` and `dmd`: the short distillation; `streaming`: long tuning. All of them go through the rollout's own
step.
"""
