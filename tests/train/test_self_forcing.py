"""Clips that the student films and learns from."""

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.train.distillation.self_forcing import nothing

from .conftest import SIZE, student_shot, texts, tiny


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.module.named_parameters() if p.grad is not None}


def naive_gradients(model, shot, clip, gradient):
    """All chunks' graphs at once, each pass reading a cache that is put together by hand from constants."""
    shot.load(clip.before)
    total = torch.zeros(())
    parts = zip(clip.inputs, clip.latents.split(3, dim=2), gradient.split(3, dim=2), strict=True)
    for noisy, latents, wanted in parts:
        span = shot.cache.next_chunk()
        kept = shot.cache.snapshot()
        shot.prompt = model.prompt_keys(clip.context)
        total = total + (shot.predict(span, noisy, clip.exit_step) * wanted).sum()
        shot.cache.load(kept)
        with torch.no_grad():
            shot.feed(latents)
    model.module.zero_grad()
    total.backward()
    return gradients(model)


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_chunk_by_chunk_is_the_gradient_of_the_whole_clip(positions, checkpointing):
    """Forbids a backward pass that reads a cache of another moment, which would be close and wrong."""
    model = tiny(1, checkpointing)
    shot = student_shot(model, positions=positions)
    shot.switch(texts(2), "cut", nothing)
    shot.roll(texts(2), 4, AddressedNoise(3), 1)  # fills the ring, so that the clip overwrites it
    clip = shot.roll(texts(2), 4, AddressedNoise(3), 2)
    gradient = torch.randn(clip.latents.shape, generator=torch.Generator().manual_seed(4))
    model.module.zero_grad()
    shot.backward(clip, gradient)
    got = gradients(model)
    model.checkpointing = False  # its recomputation would read what later chunks wrote
    expected = naive_gradients(model, shot, clip, gradient)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=2e-4, atol=2e-5, msg=name)


def test_backward_leaves_the_shot_where_it_was():
    """Forbids a film that continues differently after the student has learnt from a clip."""
    model = tiny(1)
    one, two = student_shot(model), student_shot(model)
    for shot in (one, two):
        shot.switch(texts(2), "cut", nothing)
    first = one.roll(texts(2), 5, AddressedNoise(3), 3)
    two.roll(texts(2), 5, AddressedNoise(3), 3)
    one.backward(first, torch.ones_like(first.latents))
    after = [shot.roll(texts(2), 2, AddressedNoise(3), 3).latents for shot in (one, two)]
    assert torch.equal(*after)


def test_a_clip_of_all_passes_is_the_rollout():
    """Forbids a training that films otherwise than the sampler: same step function, same bits."""
    model, noise = tiny(1), AddressedNoise(7)
    stream = StreamConfig(window=9, sink=3, positions="relative")
    with torch.no_grad():
        film = torch.cat([c.latents for c in rollout(model, [PromptSpan(0, texts(2))], 6, SIZE, stream, noise)], dim=2)
    shot = student_shot(model)
    shot.switch(texts(2), "cut", nothing)
    clips = [shot.roll(texts(2), count, noise, exit_step=3).latents for count in (4, 2)]
    assert torch.equal(torch.cat(clips, dim=2), film)


def test_earlier_frames_get_no_gradient():
    """Forbids a clip whose loss reaches the clips before it through the cache."""
    model = tiny(1)
    shot = student_shot(model)
    shot.switch(texts(2), "cut", nothing)
    shot.roll(texts(2), 3, AddressedNoise(3), 1)
    clip = shot.roll(texts(2), 1, AddressedNoise(3), 1)
    context = texts(2).requires_grad_()
    before = shot.load(clip.before) or shot.cache
    shot.prompt = model.prompt_keys(context)
    out = shot.predict(before.next_chunk(), clip.inputs[0], 1)
    assert out.requires_grad and not before.snapshot().keys.requires_grad
    graph, seen = [out.grad_fn], set()
    while graph:
        node = graph.pop()
        if node is not None and node not in seen:
            seen.add(node)
            graph += [parent for parent, _ in node.next_functions]
    leaves = {id(node.variable) for node in seen if hasattr(node, "variable")}
    assert leaves <= {id(p) for p in model.module.parameters()} | {id(context)}
