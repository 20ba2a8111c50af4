"""The distillation, short (single clips) or long (streaming long tuning).

- `dmd`: the DMD loss and the critic's loss (Yin et al. 2024, normalised as in Self-Forcing).
- `self_forcing`: the student renders a clip and learns from its own output (Self-Forcing, section 3.2).
- `streaming_long_tuning`: long films, clip after clip, with a prompt switch (LongLive, section 3.3).
- `first_latent`: the first latent frame of a clip cut out of a film.
- `distil_stage`: one training step of student and critic, and the state of the stage.
"""
