"""Parallel teacher forcing against the rollout it imitates."""

import pytest
import torch

from longlive_core.config import ModelConfig, StreamConfig
from longlive_core.engine.shot import Shot
from longlive_core.model import CausalWan, Rotary, WanModel
from longlive_core.train.causal_start.teacher_forcing import ForcingAttention, ForcingLayout

CHUNKS, HEIGHT, WIDTH, TIME = 6, 4, 4, 625.0


def _model() -> CausalWan:
    torch.manual_seed(0)
    config = ModelConfig(dim=64, ffn_dim=64, num_heads=2, num_layers=2, text_dim=16, freq_dim=32)
    return CausalWan(WanModel(config), config)


def _chunk(latents, index):
    return latents[:, :, 3 * index : 3 * index + 3]


def _in_parallel(model, layout, clean, noisy, contexts, positions):
    rotary = Rotary(model.config.head_dim, (HEIGHT // 2, WIDTH // 2), model.device)
    sequence = torch.cat([clean[:, :, :15], noisy[:, :, layout.noisy.start * 3 :]], dim=2)
    times = torch.cat([torch.zeros(1, 15), torch.full((1, sequence.shape[2] - 15), TIME)], dim=1)
    pick = torch.tensor([0 if old else 1 for old in layout.old_prompt()])
    prompt = [(k[pick], v[pick]) for k, v in model.prompt_keys(contexts)]
    attend = ForcingAttention(layout, rotary, 3, torch.float32, positions)
    return model.velocity(sequence, times, prompt, attend)[:, :, 15:]


def _in_a_rollout(model, layout, clean, noisy, contexts, positions):
    shot = Shot(model, StreamConfig(positions=positions), (HEIGHT, WIDTH), batch=1, capacity=99)
    shot.switch(contexts[:1] if layout.switch else contexts[1:], "cut", lambda step: None)
    velocities = []

    def feed(latents, noised=None):
        if noised is not None:
            velocities.append(shot._pass(noised, TIME, shot.cache.next_chunk(), shot.frames))
        shot.feed(latents)

    for index in range(CHUNKS):
        if layout.switch and index == layout.switch:
            shot.switch(contexts[1:], "recache", lambda step: None)
        if layout.held and index == 1:  # one chunk more, so that the recache falls past the window and holds the sink
            feed(torch.randn(1, 16, 3, HEIGHT, WIDTH))
        feed(_chunk(clean, index), _chunk(noisy, index) if index in layout.noisy else None)
    return torch.cat(velocities, dim=2)


@pytest.mark.parametrize(
    "switch, held, first", [(0, False, 0), (2, False, 0), (3, False, 0), (4, False, 0), (4, True, 0), (0, False, 3)]
)
@pytest.mark.parametrize("positions", ["relative", "absolute"])
def test_training_sees_what_the_rollout_sees(switch, held, first, positions):
    """Forbids training on another context, position or prompt than the cache and recache give in a rollout."""
    model, layout = _model(), ForcingLayout(CHUNKS, 1, switch, held, first)
    if positions == "absolute" and (held or first):
        with pytest.raises(ValueError, match="no absolute positions"):
            ForcingAttention(layout, Rotary(32, (2, 2), model.device), 3, torch.float32, positions)
        return
    clean, noisy = torch.randn(2, 1, 16, 3 * CHUNKS, HEIGHT, WIDTH)
    contexts = torch.randn(2, 5, 16)
    with torch.no_grad():
        parallel = _in_parallel(model, layout, clean, noisy, contexts, positions)
        rolled = _in_a_rollout(model, layout, clean, noisy, contexts, positions)
    assert (parallel - rolled).abs().max() < 1e-5


def test_a_held_sink_needs_a_film_past_the_window():
    """Forbids a training layout that no rollout ever meets."""
    with pytest.raises(ValueError, match="chunk 4"):
        ForcingLayout(CHUNKS, 1, switch=2, held=True)
