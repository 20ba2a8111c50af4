"""The engine on a CUDA device. Skipped where there is none."""

import copy
from pathlib import Path

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.model import CausalWan
from longlive_core.model.attention import _flash_attn, default_attention, sdpa
from longlive_core.quant import int8_linear, int_mm, quantise_rows
from longlive_core.run.replay import part, read_recording
from longlive_core.vae import StreamingDecoder, WanVAE
from tests.conftest import LATENT_SIZE

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
FIDELITY = Path(__file__).parent / "fidelity"


@pytest.fixture
def exact_matmuls():
    """TF32 would hide real differences behind rounding."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def on_cuda(model, dtype=torch.float32):
    return CausalWan(copy.deepcopy(model.module).to("cuda", dtype))


def film(model, contexts, chunks, stream):
    spans = [PromptSpan(0, contexts[0]), PromptSpan(2, contexts[1]), PromptSpan(6, contexts[2])]
    made = rollout(model, spans, chunks, LATENT_SIZE, stream, AddressedNoise(0))
    return torch.cat([chunk.latents.cpu() for chunk in made], 2)


@pytest.mark.parametrize("positions", ["absolute", "relative"])
def test_the_film_is_the_one_of_the_cpu(tiny_model, contexts, exact_matmuls, positions):
    """Noise must be the same on every device, and so must the arithmetic up to rounding."""
    stream = StreamConfig(positions=positions)
    cpu, cuda = (film(model, contexts, 9, stream) for model in (tiny_model, on_cuda(tiny_model)))
    assert (cpu - cuda).abs().max() < 1e-3 * cpu.abs().max()


def test_memory_is_flat(tiny_model, contexts):
    model, peaks = on_cuda(tiny_model, torch.bfloat16), []
    for chunks in (8, 8, 40):  # the first warms the allocator up
        torch.cuda.reset_peak_memory_stats()
        film(model, contexts, chunks, StreamConfig())
        peaks.append(torch.cuda.max_memory_allocated())
    assert peaks[2] <= peaks[1] + 2**20


def test_the_vae_decodes_as_on_the_cpu(exact_matmuls):
    tensors, _ = read_recording(FIDELITY / "vae.safetensors")
    decoder = StreamingDecoder(WanVAE.from_state_dict(part(tensors, "vae.")).requires_grad_(False).cuda())
    frames = torch.cat([decoder.decode(piece).cpu() for piece in tensors["latents"].split([3, 3, 1], dim=2)], 2)
    assert (frames - tensors["decoded"]).abs().max() < 1e-3


@pytest.mark.skipif(_flash_attn() is None, reason="flash-attn is not installed")
def test_flash_attention_agrees_with_sdpa():
    q, k, v = (torch.randn(1, length, 4, 64, device="cuda", dtype=torch.bfloat16) for length in (96, 384, 384))
    assert (default_attention(q, k, v) - sdpa(q, k, v)).abs().max() < 0.02


@pytest.mark.parametrize(("m", "k", "n"), [(1, 8, 8), (16, 16, 16), (17, 24, 40), (3, 5, 7), (0, 8, 8), (40, 8960, 16)])
def test_int8_products_are_exact(m, k, n):
    """Forbids shapes that cuBLAS refuses, and sums that are rounded."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (m, k), generator=generator, dtype=torch.int8)
    b = torch.randint(-128, 128, (n, k), generator=generator, dtype=torch.int8).t()
    assert torch.equal(int_mm(a.cuda(), b.cuda()).cpu().long(), a.long() @ b.long())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_int8_layers_agree_with_the_cpu(dtype):
    """Forbids kernels (comfy-kitchen's, where it is installed) that compute something else."""
    weight, scale = quantise_rows(torch.randn(48, 64))
    x, bias = torch.randn(2, 21, 64).to(dtype), torch.randn(48).to(dtype)
    cpu = int8_linear(x, weight, scale, bias).float()
    cuda = int8_linear(x.cuda(), weight.cuda(), scale.cuda(), bias.cuda()).float().cpu()
    assert (cpu - cuda).norm() < 0.02 * cpu.norm()
