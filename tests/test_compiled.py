"""Blocks that are compiled, and guidance of cross-attention: the core's own model."""

import pytest
import torch

from longlive_core.config import ModelConfig, StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.model import CausalWan, WanModel
from longlive_core.model.compiled import compile_blocks
from longlive_core.model.guidance import Guidance

SHAPE = ModelConfig(dim=48, ffn_dim=64, num_heads=2, num_layers=3, text_dim=20, freq_dim=16)


def film(model: CausalWan) -> torch.Tensor:
    spans = [PromptSpan(0, torch.ones(1, 5, SHAPE.text_dim)), PromptSpan(2, torch.zeros(1, 5, SHAPE.text_dim))]
    stream = StreamConfig(denoising_steps=(1000, 500))
    with torch.inference_mode():
        return torch.cat([chunk.latents for chunk in rollout(model, spans, 3, (4, 6), stream, AddressedNoise(1))], 2)


@pytest.fixture
def module():
    torch.manual_seed(0)
    return WanModel(SHAPE).requires_grad_(False)


@pytest.mark.slow
def test_blocks_share_their_graphs(module):
    """Forbids a compiler that is not used, a graph for every block, and attentions inside a graph."""
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph.print_readable(print_output=False))
        return graph.forward

    model = CausalWan(module)
    compile_blocks(model, lambda stage: torch.compile(stage, backend=counting, fullgraph=True), "torch.compile")
    assert (film(model) - film(CausalWan(module))).abs().max() < 1e-6
    assert len(graphs) == 6  # three stages, of a chunk and of the recache
    assert not any("attention" in graph for graph in graphs)


def test_what_cuda_graphs_overwrite_is_copied(module):
    """Forbids films of what the next stage computed: replayed graphs write to one pool of memory, over one another."""
    pool = torch.empty(100_000)

    def replaying(stage):
        def run(*given):
            made, start = stage(*given), 0
            kept = []
            for part in (made,) if isinstance(made, torch.Tensor) else made:
                kept.append(pool[start : start + part.numel()].view(part.shape).copy_(part))
                start += part.numel()
            return tuple(kept) if len(kept) > 1 else kept[0]

        return run

    copied, spoilt, plain = CausalWan(module), CausalWan(module), film(CausalWan(module))
    compile_blocks(copied, replaying, "torch.compile", copies=True)
    compile_blocks(spoilt, replaying, "torch.compile")
    assert (film(copied) - plain).abs().max() < 1e-6
    assert (film(spoilt) - plain).abs().max() > 1e-3


def test_a_failing_compiler_is_explained(module):
    """Forbids a bare error from inside PyTorch."""

    def failing(graph, inputs):
        raise NotImplementedError("no such card")

    model = CausalWan(module)
    compile_blocks(model, lambda stage: torch.compile(stage, backend=failing), "torch.compile (mine)")
    with pytest.raises(RuntimeError, match=r"torch.compile \(mine\) failed .*no such card\); remove the node"):
        film(model)


def test_guidance_pushes_within_its_limit():
    """Forbids guidance without an end to it, and one that changes anything where it is not set."""
    wanted, unwanted = torch.randn(2, 5, 16), torch.randn(2, 5, 16)
    size = wanted.abs().sum(-1)
    strong = Guidance(torch.zeros(1), scale=11.0, alpha=1.0, tau=1.5).apply(wanted, unwanted)
    assert torch.allclose(strong.abs().sum(-1), 1.5 * size, rtol=1e-4)
    gentle = Guidance(torch.zeros(1), scale=1.01, alpha=1.0, tau=1.5).apply(wanted, unwanted)
    assert torch.allclose(gentle, 1.01 * wanted - 0.01 * unwanted, atol=1e-6)
    assert torch.equal(Guidance(torch.zeros(1), scale=11.0, alpha=0.0, tau=1.5).apply(wanted, unwanted), wanted)
