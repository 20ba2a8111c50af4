"""What the tests of `checkpoints/` share."""

import pytest
import torch

from longlive_core.checkpoints import (
    CheckpointError,
)
from longlive_core.config import ModelConfig

CONFIG = ModelConfig(dim=128, ffn_dim=32, num_heads=1, num_layers=2, text_dim=24, freq_dim=16)


def prefixed(tensors, prefix):
    return {prefix + name: value for name, value in tensors.items()}


def same(given, expected):
    return given.keys() == expected.keys() and all(torch.equal(given[name], expected[name]) for name in expected)


def message(call, *arguments, **options):
    """The message of the CheckpointError that a call raises."""
    with pytest.raises(CheckpointError) as error:
        call(*arguments, **options)
    return str(error.value)
