"""NaN in a film: noticed in its chunk, before it is kept, and traced to the layer where it begins."""

import copy

import numpy as np
import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.nonfinite import NonFiniteError
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan, Shot
from longlive_core.film.decoding import film_frames
from longlive_core.model import CausalWan
from longlive_core.vae import StreamingDecoder, WanVAE
from tests.conftest import LATENT_SIZE


@pytest.fixture
def model(tiny_model):
    """A model of this test's own, to be broken."""
    return CausalWan(copy.deepcopy(tiny_model.module))


def film(model, context, chunks=3, on_step=None):
    made = rollout(model, [PromptSpan(0, context)], chunks, LATENT_SIZE, StreamConfig(), AddressedNoise(3), on_step)
    return [chunk.latents for chunk in made]


def message(model, context, **options):
    with pytest.raises(NonFiniteError) as error:
        film(model, context, **options)
    return str(error.value)


@pytest.mark.parametrize(
    "layer", ["patch_embedding", "blocks.1.self_attn.k", "blocks.0.ffn.2", "time_projection.1", "head.head"]
)
def test_a_broken_weight_is_named(model, contexts, layer):
    """Forbids a black film, and a search that blames a layer behind the one that is broken."""
    with torch.no_grad():
        model.module.get_submodule(layer).weight[0, 0] = float("nan")
    text = message(model, contexts[0])
    assert text.startswith("chunk 0: the model's output holds NaN or infinity; step 0, layer " + layer + ":")
    assert "its weights hold NaN or infinity; the file is damaged or a merged LoRA broke it" in text


@pytest.mark.parametrize(
    ("block", "row", "place"),
    [(0, 2, "blocks.0.norm3"), (1, 0, "blocks.1.self_attn.q"), (1, 5, "head.norm")],
    ids=["gate of attention", "shift of attention", "gate of the last feed-forward"],
)
def test_a_broken_modulation_is_named(model, contexts, block, row, place):
    """Forbids missing the weights that belong to no layer."""
    with torch.no_grad():
        model.module.blocks[block].modulation[0, row, 0] = float("inf")
    text = message(model, contexts[0])
    assert f"before layer {place}: the `modulation` weight of this block holds NaN or infinity" in text


def test_a_nan_that_comes_late_names_its_chunk_and_step(model, contexts):
    """Forbids numbers that always say 0: a layer breaks in chunk 1, step 2."""

    def break_it(chunk, step):
        if (chunk, step) == (1, 2):
            model.module.blocks[1].ffn[0].register_forward_hook(
                lambda layer, inputs, output: output * (float("nan") if at["step"] >= 2 else 1)
            )
        at["step"] = step

    at = {"step": 0}
    text = message(model, contexts[0], on_step=break_it)
    assert text.startswith("chunk 1:")
    assert "layer blocks.1.ffn.0" in text and "its weights and inputs (up to" in text and "are finite" in text


def test_a_broken_prompt_and_a_broken_model_are_distinguished(model, contexts):
    """Forbids blaming the model for the text encoder."""
    context = contexts[0].clone()
    context[0, 1, 0] = float("nan")
    assert "the text encoder's embedding" in message(model, context)


def test_broken_keys_in_the_cache_are_reported(model, contexts):
    """Forbids blaming the attention for keys that an earlier chunk left behind."""
    shot = Shot(model, StreamConfig(), LATENT_SIZE, batch=1, capacity=9)
    shot.switch(contexts[0], "cut", lambda step: None)
    shot.next_chunk(AddressedNoise(0), lambda step: None)
    shot.cache._keys[1, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="self-attention of block 1: the keys or values of this or earlier chunks"):
        shot.next_chunk(AddressedNoise(0), lambda step: None)


def test_float16_that_overflows_is_reported(model, contexts):
    """Forbids advice to download again for what is a matter of precision."""
    with torch.no_grad():
        model.module.blocks[0].ffn[0].weight *= 3e4
    half = CausalWan(model.module.half())
    text = message(half, contexts[0])
    assert "layer blocks.0.ffn.0: its weights and inputs (up to" in text
    assert "exceed float16, whose largest number is 65504. Choose bf16 or fp32" in text


def test_what_does_not_come_again_is_no_layers_fault(model, contexts):
    """Forbids naming a layer at random when the second try is finite."""
    calls = []

    def once(layer, inputs, output):
        calls.append(1)
        return output * float("nan") if len(calls) == 1 else None

    model.module.blocks[0].ffn[0].register_forward_hook(once)
    assert "a second try of the same chunk was finite" in message(model, contexts[0])


def test_nothing_is_left_behind(model, contexts):
    """Forbids hooks that stay, and NaN in the cache: once the cause is removed, the shot continues normally."""
    expected = film(model, contexts[0])
    shot = Shot(model, StreamConfig(), LATENT_SIZE, batch=1, capacity=9)
    shot.switch(contexts[0], "cut", lambda step: None)
    made = [shot.next_chunk(AddressedNoise(3), lambda step: None)]
    weight = model.module.blocks[0].self_attn.v.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = float("nan")
        with pytest.raises(NonFiniteError):
            shot.next_chunk(AddressedNoise(3), lambda step: None)
        weight.copy_(kept)
    made += [shot.next_chunk(AddressedNoise(3), lambda step: None) for _ in range(2)]
    assert torch.equal(torch.cat(made), torch.cat(expected))
    assert not any(layer._forward_hooks for layer in model.module.modules())


def test_the_check_is_one_reduction_a_chunk(model, contexts, monkeypatch):
    """Forbids a synchronisation in every step: the latents are checked once per chunk, after all passes are queued."""
    order = []
    original = torch.isfinite
    monkeypatch.setattr(torch, "isfinite", lambda t: order.append("isfinite") or original(t))
    film(model, contexts[0], chunks=2, on_step=lambda chunk, step: order.append(step))
    assert order == [0, 1, 2, 3, "isfinite", 4] * 2


def test_a_nan_of_the_vae_and_of_the_model_are_distinguished(model, contexts):
    """Forbids black frames from a VAE that overflows."""
    vae = WanVAE(dim=4).requires_grad_(False)
    vae.decoder.head[2].bias[0] = float("nan")
    chunks = rollout(model, [PromptSpan(0, contexts[0])], 1, LATENT_SIZE, StreamConfig(), AddressedNoise(0))
    with pytest.raises(NonFiniteError, match="chunk 0: the VAE's pixels hold NaN .* computes in float32") as error:
        list(film_frames(chunks, StreamingDecoder(vae)))
    assert "longlive_core check" in str(error.value)


def test_finite_films_are_as_before(model, contexts):
    """Forbids a check that changes frames."""
    vae = StreamingDecoder(WanVAE(dim=4).requires_grad_(False))
    chunks = rollout(model, [PromptSpan(0, contexts[0])], 2, LATENT_SIZE, StreamConfig(), AddressedNoise(0))
    frames = np.concatenate([frames for _, frames in film_frames(chunks, vae)])
    assert frames.shape == (21, 32, 48, 3) and frames.dtype == np.uint8
