"""Small random models for tests."""

import pytest
import torch

from longlive_core.config import ModelConfig
from longlive_core.model import CausalWan, WanModel

TINY = ModelConfig(dim=48, ffn_dim=64, num_heads=2, num_layers=2, text_dim=20, freq_dim=16)
LATENT_SIZE = (4, 6)


@pytest.fixture(scope="session")
def tiny_model():
    """A random transformer whose output depends visibly on everything it is given."""
    torch.manual_seed(0)
    module = WanModel(TINY).requires_grad_(False)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
    return CausalWan(module)


@pytest.fixture(scope="session")
def contexts():
    """Three prompts' embeddings, [1, 5, 20] each."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 5, TINY.text_dim, generator=generator) * 2 for _ in range(3)]
