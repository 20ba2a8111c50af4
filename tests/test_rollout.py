"""The rollout against its naive twin, and what it promises about shots, batches, cancelling and memory."""

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan, Shot
from tests.conftest import LATENT_SIZE
from tests.naive import naive_rollout

SETTINGS = {
    "longlive": StreamConfig(),
    "refreshed": StreamConfig(sink_policy="refreshed"),
    "relative": StreamConfig(positions="relative"),
    "relative refreshed": StreamConfig(positions="relative", sink_policy="refreshed"),
    "framewise": StreamConfig(window=5, sink=2, chunk=1),
    "framewise relative": StreamConfig(window=5, sink=2, chunk=1, positions="relative"),
    "two-chunk sink": StreamConfig(window=12, sink=6),
    "no sink": StreamConfig(window=6, sink=0),
    "no window": StreamConfig(window=-1, sink=0),
    "context noise": StreamConfig(window=6, context_noise=50, denoising_steps=(1000, 500)),
}
TRANSITIONS = {
    "one prompt": [],
    "early recache": [(2, "recache")],
    "late recache": [(6, "recache")],
    "recaches in a row": [(2, "recache"), (6, "recache"), (7, "recache")],
    "keep": [(5, "keep")],
    "cut": [(3, "cut"), (8, "recache")],
}


def spans_of(contexts, switches):
    starts = [(0, "recache"), *switches]
    return [PromptSpan(start, contexts[i % 3], transition) for i, (start, transition) in enumerate(starts)]


def film(model, spans, chunks, stream, seed=3, on_step=None):
    made = rollout(model, spans, chunks, LATENT_SIZE, stream, AddressedNoise(seed), on_step)
    return torch.cat([chunk.latents for chunk in made], 2)


@pytest.mark.parametrize("stream", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("switches", TRANSITIONS.values(), ids=TRANSITIONS)
def test_ring_and_in_place_writes_change_nothing(tiny_model, contexts, stream, switches):
    spans = spans_of(contexts, switches)
    ours = film(tiny_model, spans, 10, stream)
    twin = naive_rollout(tiny_model, spans, 10, LATENT_SIZE, stream, AddressedNoise(3))
    assert (ours - twin).abs().max() < 2e-4 * twin.abs().max()


@pytest.mark.parametrize("transition", ["recache", "keep"])
def test_a_switch_changes_what_follows_and_nothing_before(tiny_model, contexts, transition):
    one = film(tiny_model, spans_of(contexts, []), 8, StreamConfig())
    two = film(tiny_model, spans_of(contexts, [(5, transition)]), 8, StreamConfig())
    assert torch.equal(one[:, :, :15], two[:, :, :15])
    assert (one[:, :, 15:] - two[:, :, 15:]).abs().max() > 0.1


def test_recache_and_keep_and_both_sink_policies_are_four_different_films(tiny_model, contexts):
    def late(transition, **settings):
        return film(tiny_model, spans_of(contexts, [(6, transition)]), 8, StreamConfig(**settings))[:, :, 18:]

    held, refreshed = late("recache"), late("recache", sink_policy="refreshed")
    assert (held - refreshed).abs().max() > 1e-2
    assert (held - late("keep")).abs().max() > 1e-2


def test_a_shot_after_a_cut_is_the_film_one_would_get_alone(tiny_model, contexts):
    both = film(tiny_model, spans_of(contexts, [(4, "cut")]), 9, StreamConfig())
    alone = film(tiny_model, [PromptSpan(0, contexts[1])], 5, StreamConfig())
    assert torch.equal(both[:, :, 12:], alone)


def test_equal_inputs_give_equal_films_and_seeds_matter(tiny_model, contexts):
    spans = spans_of(contexts, [(2, "recache")])
    one, two = (film(tiny_model, spans, 5, StreamConfig()) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.allclose(one, film(tiny_model, spans, 5, StreamConfig(), seed=4))


def test_every_item_of_a_batch_is_the_film_its_seed_gives_alone(tiny_model, contexts):
    batch = [PromptSpan(span.start, span.context.repeat(2, 1, 1)) for span in spans_of(contexts, [(3, "recache")])]
    both = film(tiny_model, batch, 6, StreamConfig(), seed=[3, 9])
    for item, seed in enumerate((3, 9)):
        alone = film(tiny_model, spans_of(contexts, [(3, "recache")]), 6, StreamConfig(), seed=seed)
        assert (both[item : item + 1] - alone).abs().max() < 2e-4 * alone.abs().max()


def test_a_longer_film_begins_with_the_shorter_one(tiny_model, contexts):
    long = film(tiny_model, spans_of(contexts, []), 9, StreamConfig())
    assert torch.equal(long[:, :, :15], film(tiny_model, spans_of(contexts, []), 5, StreamConfig()))


def test_on_step_comes_before_every_pass_and_can_cancel_there(tiny_model, contexts):
    calls = []

    def cancel(chunk, step):
        calls.append((chunk, step))
        if (chunk, step) == (1, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        film(tiny_model, spans_of(contexts, []), 5, StreamConfig(), on_step=cancel)
    assert calls == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2)]


def test_an_interrupted_pass_has_no_effect(tiny_model, contexts):
    """An interrupt inside a layer must not leave half-written keys that the next attempt can see."""
    expected = film(tiny_model, spans_of(contexts, []), 6, StreamConfig())
    shot = Shot(tiny_model, StreamConfig(), LATENT_SIZE, batch=1, capacity=18)
    noise = AddressedNoise(3)
    shot.switch(contexts[0], "cut", lambda step: None)
    latents = []
    for index in range(6):
        if index in (0, 1, 5):  # into the sink, into an unfilled ring, around a full ring
            hook = tiny_model.module.blocks[1].ffn.register_forward_hook(lambda *_: (_ for _ in ()).throw(MemoryError))
            with pytest.raises(MemoryError):
                shot.next_chunk(noise, lambda step: None)
            hook.remove()
        latents.append(shot.next_chunk(noise, lambda step: None))
    assert torch.equal(torch.cat(latents, 2), expected)


def test_memory_does_not_grow_with_the_film(tiny_model, contexts):
    shot = Shot(tiny_model, StreamConfig(), LATENT_SIZE, batch=1, capacity=3000)
    shot.switch(contexts[0], "cut", lambda step: None)
    keys, size = shot.cache.visible(0, shot.cache.next_chunk())[0].data_ptr(), shot.cache.nbytes
    for _ in range(12):
        shot.next_chunk(AddressedNoise(0), lambda step: None)
    assert shot.cache.visible(0, shot.cache.next_chunk())[0].data_ptr() == keys
    assert shot.cache.nbytes == size
    assert sum(part.shape[2] for part in shot.recent) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunks": 0}, "at least one chunk"),
        ({"latent_size": (5, 6)}, "size 48x40.*multiples of 16"),
        ({"chunks": 342}, "1026 latent frames.*1024.*relative"),
        ({"spans": []}, "start at chunk 0"),
        ({"spans": [(0, "recache"), (9, "recache")]}, "chunk 9.*chunks 1 to 4"),
        ({"spans": [(0, "recache"), (2, "melt")]}, "'melt'.*recache, keep, cut"),
    ],
    ids=str,
)
def test_contradictions_are_refused_before_anything_runs(tiny_model, contexts, change, message):
    arguments = {"spans": [(0, "recache")], "chunks": 5, "latent_size": LATENT_SIZE} | change
    spans = [PromptSpan(start, contexts[0], transition) for start, transition in arguments["spans"]]
    with pytest.raises(ValueError, match=message):
        rollout(tiny_model, spans, arguments["chunks"], arguments["latent_size"], StreamConfig(), AddressedNoise(0))


def test_relative_positions_have_no_end(tiny_model, contexts):
    rollout(tiny_model, spans_of(contexts, []), 500, LATENT_SIZE, StreamConfig(positions="relative"), AddressedNoise(0))
