"""16 bits: which are chosen, and that a film in them is the float32 one up to rounding."""

import copy

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.device import precision
from longlive_core.device.precision import cpu_computes_bf16, resolve_dtype
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import Chunk, rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.film.decoding import film_frames
from longlive_core.model import CausalWan, WanModel
from longlive_core.vae import StreamingDecoder, WanVAE, streaming

from .conftest import LATENT_SIZE, TINY

ROUNDING = {torch.bfloat16: 0.03, torch.float16: 0.004}  # of three chunks, relative to the largest number


def film(model, contexts, chunks=3):
    spans = [PromptSpan(0, contexts[0]), PromptSpan(1, contexts[1])]
    made = rollout(model, spans, chunks, LATENT_SIZE, StreamConfig(), AddressedNoise(0))
    return torch.cat([chunk.latents for chunk in made], dim=2)


def in_dtype(module, dtype, **options):
    return CausalWan(copy.deepcopy(module).to(dtype), TINY, **options)


@pytest.fixture(scope="module")
def growing():
    """A model whose residual stream reaches 200,000, though no layer's own output leaves float16's range."""
    torch.manual_seed(0)
    module = WanModel(TINY).requires_grad_(False)
    for block in module.blocks:
        for layer in (block.self_attn.o, block.cross_attn.o, block.ffn[2]):
            layer.bias.normal_(std=17000).clamp_(-50000, 50000)
        block.modulation.fill_(0.5)
    return module


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_a_film_in_16_bits_is_the_one_in_32_up_to_rounding(tiny_model, contexts, dtype):
    exact, rounded = film(tiny_model, contexts), film(in_dtype(tiny_model.module, dtype), contexts)
    assert (rounded - exact).abs().max() < ROUNDING[dtype] * exact.abs().max()


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_a_patch_embedding_kept_in_float32_is_given_float32(tiny_model, contexts, dtype):
    """ComfyUI builds that one layer in float32; where its layers do not cast, 16-bit input raises."""
    module = copy.deepcopy(tiny_model.module).to(dtype)
    module.patch_embedding.float()
    model = CausalWan(module, TINY, dtype=dtype, patch_dtype=torch.float32)
    exact = film(tiny_model, contexts)
    assert (film(model, contexts) - exact).abs().max() < ROUNDING[dtype] * exact.abs().max()


def test_float16_holds_a_residual_stream_beyond_its_range(growing, contexts):
    """Forbids infinity where bf16 is fine: the stream is what grows from block to block."""
    exact = film(CausalWan(growing, TINY), contexts)
    assert torch.isfinite(exact).all()
    ours, naive = in_dtype(growing, torch.float16), in_dtype(growing, torch.float16)
    naive.stream_dtype = torch.float16
    assert (film(ours, contexts) - exact).abs().max() < 0.02 * exact.abs().max()
    with pytest.raises(ValueError, match="float16"):
        film(naive, contexts)


def test_the_embeddings_of_a_schedule_are_made_once(tiny_model, contexts):
    model = CausalWan(tiny_model.module, TINY)
    film(model, contexts)
    assert sorted(model._embeddings) == pytest.approx([0, 625, 833.3333, 937.5, 1000])
    for number in range(300):  # training draws new timesteps without end
        model._time(float(number))
    assert len(model._embeddings) <= 100


@pytest.mark.parametrize(
    ("device", "computes", "expected"),
    [
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float16),
        ("mps", True, torch.bfloat16),
        ("mps", False, torch.float16),
        ("xpu", True, torch.bfloat16),
        ("meta", True, torch.float32),
    ],
)
def test_auto_is_the_16_bits_that_the_device_computes_in(monkeypatch, device, computes, expected):
    """Forbids bf16 on cards that only emulate it (Turing) and fp16 where bf16 is as fast and holds larger numbers."""

    class Entered:
        def __init__(self, device):
            pass

        __enter__ = __exit__ = lambda self, *error: None

    def supported(including_emulation=True):
        return computes or including_emulation

    monkeypatch.setattr(torch.cuda, "device", Entered)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: computes)
    assert resolve_dtype("auto", torch.device(device)) is expected


def test_the_processor_decides_unless_the_user_does(monkeypatch):
    """LONGLIVE_CPU_BF16 makes a newer CPU compute like an ordinary one, for tests and for users."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert cpu_computes_bf16()
    monkeypatch.setenv(precision.CPU_BF16, "0")
    assert not cpu_computes_bf16() and resolve_dtype("auto", torch.device("cpu")) is torch.float32
    monkeypatch.setenv(precision.CPU_BF16, "1")
    assert resolve_dtype("auto", torch.device("cpu")) is torch.bfloat16
    monkeypatch.setenv(precision.CPU_BF16, "yes")
    with pytest.raises(ValueError, match="LONGLIVE_CPU_BF16 is 'yes': allowed are 0"):
        cpu_computes_bf16()


# --- the VAE in float16


def loud_vae(loudness):
    """A decoder whose residual stream is `loudness` times as large as that of random weights."""
    torch.manual_seed(0)
    vae = WanVAE(dim=16).requires_grad_(False)
    for layer in (vae.decoder.conv1, *(part for part in vae.decoder.modules() if hasattr(part, "residual"))):
        last = layer if layer is vae.decoder.conv1 else layer.residual[-1]
        last.weight.mul_(loudness)
        last.bias.mul_(loudness)
    return vae


def pictures(vae, dtype):
    latents = torch.randn(2, 1, 16, 3, 4, 6, generator=torch.Generator().manual_seed(3))
    decoder = StreamingDecoder(copy.deepcopy(vae).to(dtype))
    with torch.inference_mode():
        chunks = [Chunk(index, index, latents[index]) for index in range(2)]
        frames = torch.cat([torch.from_numpy(frames) for _, frames in film_frames(chunks, decoder)])
    return frames.float(), decoder


@pytest.mark.slow
def test_float16_norms_hold_numbers_whose_squares_do_not_fit(monkeypatch):
    """Forbids grey pictures: a norm beyond 65504 is infinite, and what is divided by it zero, which nothing notices."""
    vae = loud_vae(1.2e4)
    exact, _ = pictures(vae, torch.float32)
    ours, decoder = pictures(vae, torch.float16)
    assert decoder.dtype is torch.float16 and exact.std() > 5
    assert (ours - exact).abs().mean() < 0.5  # of 255
    monkeypatch.setattr(streaming, "NORM_SCALE", 1.0)
    naive, _ = pictures(vae, torch.float16)
    assert (naive - exact).abs().mean() > 2


@pytest.mark.slow
def test_a_vae_that_outgrows_float16_computes_in_float32_and_says_so(caplog):
    """Forbids an error, or a black film, where the weights are kept in float16 and only the numbers are too large."""
    vae = loud_vae(5e5)
    exact, _ = pictures(vae, torch.float32)
    ours, decoder = pictures(vae, torch.float16)
    assert decoder.dtype is torch.float32 and next(decoder.module.parameters()).dtype is torch.float16
    assert (ours - exact).abs().mean() < 0.5
    assert "overflow float16 in chunk 0" in caplog.text and "float32 from here on" in caplog.text
