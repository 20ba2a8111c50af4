"""The pieces of the pocket model's training that would fail quietly: it would only learn less."""

import numpy as np
import torch
from torch import nn

from longlive_core.config import ModelConfig
from longlive_core.model import CausalWan, Rotary, WanModel
from longlive_core.pocket.grounding import PLACE_BLOCK, PROMPT_BLOCK, Grounding, WatchedWan
from longlive_core.toybox import world
from longlive_core.train.causal_start.teacher_forcing import ForcingAttention, ForcingLayout
from longlive_core.train.optimiser import MasterAdam, orthogonalised

GRID = (3, 5, 8)
CELLS = 3 * 5 * 8


def _knowing(labels: torch.Tensor, size: int) -> torch.Tensor:
    return nn.functional.one_hot(labels, size).float()


@torch.no_grad()
def _read(head: nn.Linear, start: int) -> None:
    """Let a head predict from the features from `start` on."""
    head.bias.zero_()
    head.weight.zero_()[:, start : start + len(head.weight)].fill_diagonal_(9.0)


def test_the_heads_read_from_every_token_its_own_prompt_and_place():
    """Forbids labels that do not belong to the tokens: hidden states that hold the truth must answer all rightly."""
    rng, grounding = np.random.default_rng(0), Grounding(64, GRID)
    requested = [world.random_attributes(rng) for _ in range(3)]
    copies, clean = 2, 7  # chunks of the noisy part, tokens of the clean one
    prompts, places, start = torch.zeros(3, copies * CELLS, 64), torch.zeros(3, copies * CELLS, 64), 0
    for field, table in world.TABLES.items():
        labels = torch.tensor([list(table).index(getattr(look, field)) for look in requested])
        prompts[:, :, start : start + len(table)] = _knowing(labels, len(table))[:, None]
        _read(grounding.prompt[field], start)
        start += len(table)
    index, start = torch.arange(copies * CELLS) % CELLS, 0
    truth = {"t": index // 40, "y": index // 8 % 5, "x": index % 8}
    for axis, size in zip("tyx", GRID, strict=True):
        places[:, :, start : start + size] = _knowing(truth[axis], size)
        _read(grounding.place[axis], start)
        start += size
    rubbish = torch.randn(3, clean, 64)
    watched = {PROMPT_BLOCK: torch.cat([rubbish, prompts], 1), PLACE_BLOCK: torch.cat([rubbish, places], 1)}
    loss, right = grounding(watched, requested, clean)
    assert right == 1.0 and loss < 0.01
    _, wrong = grounding(watched, requested[1:] + requested[:1], clean)
    assert wrong < 1.0


def test_watching_changes_nothing():
    """Forbids an auxiliary task that trains another model than the one that rollouts use."""
    torch.manual_seed(0)
    config = ModelConfig(dim=64, ffn_dim=64, num_heads=1, num_layers=4, text_dim=16, freq_dim=32)
    model, layout, latents = WanModel(config), ForcingLayout(1, 1), torch.randn(2, 16, 3, 4, 4)
    nn.init.normal_(model.head.head.weight, 0, 0.1)
    attend = ForcingAttention(layout, Rotary(config.head_dim, (2, 2), torch.device("cpu")), 3, torch.float32)
    context = torch.randn(2, 5, 16)
    wan, plain = WatchedWan(model, config), CausalWan(model, config)
    one = wan.velocity(latents, torch.full((2, 3), 1000.0), wan.prompt_keys(context), attend)
    assert {layer: tuple(x.shape) for layer, x in wan.watched.items()} == {
        PROMPT_BLOCK: (2, 12, 64),
        PLACE_BLOCK: (2, 12, 64),
    }
    two = plain.velocity(latents, torch.full((2, 3), 1000.0), plain.prompt_keys(context), attend)
    assert torch.equal(one, two) and one.abs().max() > 0


def test_muon_moves_convolutions_by_orthogonal_steps():
    """Forbids a matrix step of another size than its rate says, or one that forgets a convolution's kernel."""
    torch.manual_seed(0)
    for module in (nn.Conv3d(4, 8, 3), nn.Linear(16, 8)):
        optimiser = MasterAdam({"net": module}, matrix=lambda name: name.endswith("weight"))
        before = module.weight.detach().clone()
        module.weight.grad, module.bias.grad = torch.randn_like(module.weight), torch.randn_like(module.bias)
        optimiser.step(rate=1e-3, matrix_rate=0.1)
        values = torch.linalg.svdvals((module.weight.detach() - before).flatten(1)) / 0.1
        assert values.shape == (8,) and values.min() > 0.6 and values.max() < 1.3
    values = torch.linalg.svdvals(orthogonalised(torch.randn(2, 6, 20)))
    assert values.min() > 0.6 and values.max() < 1.3
