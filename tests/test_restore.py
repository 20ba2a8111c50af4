"""A film resumed from stored latents equals one that was never interrupted, bit for bit."""

import pytest
import torch

from longlive_core.config import StreamConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from tests.conftest import LATENT_SIZE
from tests.test_rollout import SETTINGS, TRANSITIONS, spans_of

CHUNKS = 13
LATE = {
    "held sink of an early recache": [(3, "recache"), (7, "recache"), (10, "recache")],
    "keep before and after": [(1, "keep"), (6, "recache"), (8, "keep"), (9, "recache")],
    "second shot": [(5, "cut"), (7, "recache"), (11, "recache")],
}


def film(model, spans, stream, stored=(), chunks=CHUNKS, on_step=None):
    spans = [span for span in spans if span.start < chunks]
    made = rollout(model, spans, chunks, LATENT_SIZE, stream, AddressedNoise(3), on_step, stored)
    return [chunk.latents for chunk in made]


@pytest.mark.slow
@pytest.mark.parametrize("stream", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("switches", [*TRANSITIONS.values(), *LATE.values()], ids=[*TRANSITIONS, *LATE])
def test_any_prefix_resumes_as_if_nothing_had_happened(tiny_model, contexts, stream, switches):
    """Forbids a cache that is only nearly the one of the uninterrupted film, wherever that was interrupted."""
    spans = spans_of(contexts, switches)
    whole = film(tiny_model, spans, stream)
    for first in range(1, CHUNKS, 1 if stream == StreamConfig() else 3):
        end = CHUNKS if stream == StreamConfig() else min(first + 3, CHUNKS)
        rest = film(tiny_model, spans, stream, whole[:first], end)
        assert len(rest) == end - first
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[first:end], strict=True)), first


def test_a_whole_stored_film_leaves_nothing_to_do(tiny_model, contexts):
    spans = spans_of(contexts, [])
    assert film(tiny_model, spans, StreamConfig(), film(tiny_model, spans, StreamConfig())) == []


@pytest.mark.parametrize(
    ("switches", "first", "passes"),
    [
        ([], 3, 3),  # the beginning again, one pass a chunk
        ([], 12, 1 + 2 * 2),  # the sink, and layers * (ring - 1) chunks
        ([(2, "recache")], 2, 0),  # what the recache reads is there
        ([(6, "recache")], 6, 1),  # and the sink
        ([(3, "recache"), (7, "recache")], 7, 1),  # which the earlier recache wrote
        ([(6, "recache")], 8, 1 + 1 + 2),  # sink, recache, two chunks
        ([(5, "cut")], 5, 0),
    ],
)
def test_few_passes_are_enough(tiny_model, contexts, switches, first, passes):
    """Forbids resuming by rendering stored chunks again."""
    spans, stored = spans_of(contexts, switches), [torch.zeros(1, 16, 3, *LATENT_SIZE)] * first
    calls = []
    film(tiny_model, spans, StreamConfig(), stored, first + 1, lambda *address: calls.append(address))
    due = any(span.start == first and span.transition == "recache" for span in spans)
    made = len(StreamConfig().denoising_steps) + 1 + due
    assert calls[:passes] == [(first, 0)] * passes
    assert len(calls) == passes + made


def test_more_chunks_than_the_film_has_are_refused(tiny_model, contexts):
    stored = [torch.zeros(1, 16, 3, *LATENT_SIZE)] * 3
    with pytest.raises(ValueError, match="3 chunks are stored, but the film has 2"):
        rollout(tiny_model, spans_of(contexts, []), 2, LATENT_SIZE, StreamConfig(), AddressedNoise(3), None, stored)
