"""What the causal forward may touch of a module that it is bound to."""

import copy

import torch
from torch import nn

from longlive_core.config import StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.model import CausalWan

from .conftest import LATENT_SIZE


class _Sealed(nn.Module):
    """A layer that can be called, and nothing else: it has no weight, no bias and no parameters to read."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.call = layer.forward  # a function: what it is bound to is no submodule of this one

    def forward(self, *arguments):
        return self.call(*arguments)


def seal(module: nn.Module) -> int:
    """Seal every layer with parameters of its own; -> how many. Blocks keep their bare `modulation`."""
    count = 0
    for name, child in list(module.named_children()):
        if any(True for _ in child.children()):
            count += seal(child)
        elif any(True for _ in child.parameters()):
            setattr(module, name, _Sealed(child))
            count += 1
    return count


def test_the_forward_reads_no_weight(tiny_model, contexts):
    """Forbids reading a parameter but `modulation`: in ComfyUI it may be quantised, patched or elsewhere."""
    module = copy.deepcopy(tiny_model.module)
    assert seal(module) > 20
    left = {name.rpartition(".")[2] for name, _ in module.named_parameters()}
    assert left == {"modulation"}
    sealed = CausalWan(module, tiny_model.config, device=tiny_model.device, dtype=tiny_model.dtype)
    spans = [PromptSpan(0, contexts[0]), PromptSpan(2, contexts[1])]
    films = [
        torch.cat([c.latents for c in rollout(model, spans, 4, LATENT_SIZE, StreamConfig(), AddressedNoise(1))], 2)
        for model in (tiny_model, sealed)
    ]
    assert torch.equal(*films)
