"""Weights of small random models, for the tests of `checkpoints/`."""

import pytest
import torch

from longlive_core.model import WanModel
from longlive_core.vae import WanVAE

from .files import CONFIG


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    return {name: value.detach() for name, value in WanModel(CONFIG).state_dict().items()}


@pytest.fixture(scope="module")
def vae_weights():
    torch.manual_seed(0)
    return WanVAE(dim=4).state_dict()


@pytest.fixture(scope="module")
def peft_lora(weights):
    """Rank 4 on every linear layer of the blocks, as LongLive's lora.pt has it (there rank 256)."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, weight in weights.items():
        if name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2:
            layer = "base_model.model." + name.removesuffix(".weight")
            tensors[f"{layer}.lora_A.weight"] = torch.randn(4, weight.shape[1], generator=generator)
            tensors[f"{layer}.lora_B.weight"] = torch.randn(weight.shape[0], 4, generator=generator)
    return tensors
