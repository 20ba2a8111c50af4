"""Placements: the same film with any placement, and no more on the device than planned."""

import pytest
import torch

from longlive_core.config import ModelConfig, StreamConfig
from longlive_core.device import placement
from longlive_core.device.placement import PLACEMENTS, RESIDENT, Offloader, Placement
from longlive_core.engine import cache
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import Rollout, rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.film.decoding import film_frames
from longlive_core.model import CausalWan, WanModel
from longlive_core.run.memory import NotEnoughMemory, estimate
from longlive_core.takes import render_take
from longlive_core.vae import StreamingDecoder, WanVAE, streaming

from .conftest import LATENT_SIZE
from .studio import frames_of, no_tags, same
from .test_memory import SIZE, WAN, NoNoise, plan_of, unused
from .tracing import Peak

pytestmark = pytest.mark.slow

GPU = torch.device("cuda")
CARD = {"24 GB": 24, "16 GB": 16, "12 GB": 12, "8 GB": 8}
TAKEN = 1.0e9  # bytes that a desktop, CUDA itself and ComfyUI's reserve use


def film(model, decoder, contexts, where, chunks=6):
    spans = [PromptSpan(0, contexts[0]), PromptSpan(3, contexts[1])]
    offloader = Offloader(where, decoder)
    decoder.reset()
    made = rollout(model, spans, chunks, LATENT_SIZE, StreamConfig(), AddressedNoise(0), offloader=offloader)
    frames, held = [], []
    for chunk, pictures in film_frames(made, decoder, offloader):
        frames.append(torch.from_numpy(pictures))
        held.append((chunk.index, offloader.cache.allocated, decoder.allocated))
    return torch.cat(frames), held


@pytest.mark.parametrize("where", PLACEMENTS, ids=lambda where: where.name)
def test_every_placement_gives_the_same_film(tiny_model, tiny_decoder, contexts, where):
    expected, _ = film(tiny_model, tiny_decoder, contexts, RESIDENT)
    frames, held = film(tiny_model, tiny_decoder, contexts, where)
    assert torch.equal(frames, expected)
    assert all((cache_bytes == 0) is where.cache_moves and vae_bytes > 0 for _, cache_bytes, vae_bytes in held)


@pytest.mark.parametrize("where", PLACEMENTS, ids=lambda where: where.name)
def test_a_take_that_was_stopped_continues_alike_in_every_placement(studio, where):
    """Forbids a cache that sleeps when a resumed film restores it, and a placement in the chunks' keys."""
    whole = studio.open()
    studio.render(whole)
    expected, film = studio.latents(whole), frames_of(whole.film_path)
    for key in whole.manifest.keys[4:]:
        studio.store.latents_path(key).unlink()
        studio.store.unit_path(key, whole.manifest.unit).unlink()
    offloader = Offloader(where, studio.decoder)
    again = studio.open()
    render_take(again, studio.model, studio.decoder, studio.contexts.__getitem__, no_tags, offloader=offloader)
    assert again.id == whole.id and same(studio.latents(again), expected)
    assert all((a == b).all() for a, b in zip(frames_of(again.film_path), film, strict=True))


def test_what_is_allocated_is_what_lies_on_the_device(tiny_model, tiny_decoder, contexts):
    """ComfyUI keeps free what the run will still allocate: memory that the run already holds must not count twice."""
    offloader = Offloader(PLACEMENTS[-1], tiny_decoder)
    tiny_decoder.reset()
    assert offloader.allocated == 0
    run = Rollout(tiny_model, StreamConfig(), LATENT_SIZE, AddressedNoise(0), 12, lambda *_: None, offloader=offloader)
    assert offloader.allocated == run.shot.cache.nbytes > 0
    latents = run.next_chunk(PromptSpan(0, contexts[0])).latents
    offloader.before_decoding()
    assert offloader.allocated == 0
    tiny_decoder.decode(latents)
    assert offloader.allocated == tiny_decoder.allocated > 0
    offloader.before_denoising()
    assert offloader.allocated == run.shot.cache.nbytes


# --- as counted on meta tensors


@pytest.fixture(scope="module")
def meta():
    """One layer of the real width, and the real VAE."""
    with torch.device("meta"):
        model, vae = WanModel(WAN).bfloat16(), WanVAE().bfloat16()
    return CausalWan(model.requires_grad_(False), WAN, unused), StreamingDecoder(vae.requires_grad_(False))


@pytest.fixture(scope="module")
def whole():
    """The 1.3B model."""
    config = ModelConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30)
    with torch.device("meta"):
        model, vae = WanModel(config).bfloat16(), WanVAE().bfloat16()
    return CausalWan(model.requires_grad_(False), config, unused), StreamingDecoder(vae.requires_grad_(False))


@pytest.mark.parametrize("where", PLACEMENTS, ids=lambda where: where.name)
def test_the_device_holds_what_was_said(meta, where, monkeypatch):
    """Within 10 %, and never less than the estimate."""
    for module in (cache, streaming):  # nothing on `meta` can be copied; a shape without memory represents it
        monkeypatch.setattr(
            module, "to_main_memory", lambda tensor, place=None: torch.empty(1).to(tensor.dtype).expand(tensor.shape)
        )
    model, decoder = meta
    plan, stream = plan_of(StreamConfig(), "0c a\n6c b", seconds=7 * 12 / 16), StreamConfig()
    need = estimate(model, decoder, plan, stream, SIZE)
    decoder.reset()
    offloader, context = Offloader(where, decoder), torch.empty(1, 512, WAN.text_dim)
    latent = (SIZE[1] // 8, SIZE[0] // 8)
    with Peak() as peak:
        run = Rollout(model, stream, latent, NoNoise(), 21, lambda *_: None, offloader=offloader)
        for index in range(plan.chunks):
            change = PromptSpan(index, context) if index in (0, 6) else None
            latents = run.next_chunk(change).latents
            offloader.before_decoding()
            decoder.decode(latents)
    said = placed(need, where).run
    assert 0.9 * peak.peak < said <= peak.peak


def placed(need, where):
    from dataclasses import replace

    return replace(need, placement=where)


@pytest.mark.parametrize(
    ("card", "expected"),
    [("24 GB", RESIDENT), ("16 GB", RESIDENT), ("12 GB", RESIDENT), ("8 GB", Placement(True, True))],
)
def test_a_card_gets_the_fastest_placement_that_fits(whole, card, expected):
    """Forbids 12 GB that are starved and 8 GB that are refused, at LongLive's own size in bf16."""
    free = CARD[card] * 2**30 - TAKEN
    need = estimate(*whole, plan_of(StreamConfig()), StreamConfig(), SIZE).placed(GPU, free)
    assert need.placement == expected
    need.check(free, "cuda")


def test_where_nothing_can_move_nothing_does(whole):
    need = estimate(*whole, plan_of(StreamConfig()), StreamConfig(), SIZE)
    for kind in ("cpu", "mps"):
        assert need.placed(torch.device(kind), 1).placement == RESIDENT
    assert need.placed(GPU, None).placement == RESIDENT


def test_int8_is_proposed_where_it_helps_and_never_chosen(whole):
    need = estimate(*whole, plan_of(StreamConfig()), StreamConfig(), SIZE)
    assert need.saved_by_int8 == pytest.approx(1.39e9, rel=0.01)
    roomy, tight = need.total, need.total - 0.5e9
    assert not need.placed(GPU, roomy).proposes_int8(roomy)
    assert need.placed(GPU, tight).proposes_int8(tight)
    assert not need.placed(GPU, 2e9).proposes_int8(2e9)


def test_a_refusal_names_what_would_fit(whole):
    """Forbids a refusal that leaves the user to guess: a smaller size, or INT8."""
    need = estimate(*whole, plan_of(StreamConfig()), StreamConfig(), SIZE).placed(GPU, 6e9)
    with pytest.raises(NotEnoughMemory) as error:
        need.check(6e9, "cuda")
    assert "wait in main memory" in str(error.value) and "Lower width and height" in str(error.value)
    assert "INT8 (saves 1.4 GB)" in str(error.value)
    small = estimate(*whole, plan_of(StreamConfig()), StreamConfig(), (624, 352)).placed(GPU, 6e9)
    small.check(6e9, "cuda")


def test_placements_are_named_for_reports():
    assert [where.name for where in PLACEMENTS] == ["resident", "cache moves", "cache and VAE memory move"]
    assert placement.RESIDENT is PLACEMENTS[0]
