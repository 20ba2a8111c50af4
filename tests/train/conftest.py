"""A student, a teacher and a critic of a few thousand weights, and prompts of random numbers."""

import pytest
import torch

from longlive_core.config import ModelConfig, StreamConfig
from longlive_core.model import WanModel
from longlive_core.train.distillation.self_forcing import StudentShot
from longlive_core.train.trainable import TrainableWan

TINY = ModelConfig(dim=32, ffn_dim=64, num_heads=2, num_layers=2, text_dim=16, freq_dim=16)
SIZE = (4, 4)  # latent


def tiny(seed: int, checkpointing: bool = False) -> TrainableWan:
    torch.manual_seed(seed)
    return TrainableWan(WanModel(TINY), TINY, checkpointing=checkpointing)


def texts(seed: int, batch: int = 1) -> torch.Tensor:
    """Text embeddings [batch, 5, 16]."""
    return torch.randn(batch, 5, TINY.text_dim, generator=torch.Generator().manual_seed(seed))


def student_shot(model: TrainableWan, batch: int = 1, **stream) -> StudentShot:
    settings = {"window": 9, "sink": 3, "positions": "relative", **stream}
    return StudentShot(model, StreamConfig(**settings), SIZE, batch, capacity=300)


@pytest.fixture
def student() -> TrainableWan:
    return tiny(1)
