"""A film's length takes no memory, over the whole way from noise to the file."""

import gc
import tracemalloc

import pytest
import torch

from longlive_core.takes import TakeStore, render_take

from .studio import Studio, no_tags, observing

FILLED, CHUNKS = 8, 20  # by chunk FILLED window, cache and decoder hold all that they ever will
# A chunk's latents are 4.6 kB here, its frames 55 kB. Lists of keys and names may grow.
A_CHUNK = 2_500


def held() -> int:
    """Bytes in tensors, and in everything that Python and numpy allocated since tracing began."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, torch.nn.Parameter)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values()) + tracemalloc.get_traced_memory()[0]


@pytest.mark.slow
def test_a_longer_film_takes_no_more_memory(tmp_path, tiny_model, contexts, tiny_decoder):
    """Forbids latents, frames or video of earlier chunks that stay in memory until the film ends."""
    studio = Studio(tiny_model, {"a": contexts[0]}, tiny_decoder, TakeStore(tmp_path))
    take, sizes = studio.open(text="0c a", chunks=CHUNKS), []
    observer = observing(chunk=lambda chunk, frames: sizes.append(held()))
    tracemalloc.start()
    try:
        render_take(take, tiny_model, tiny_decoder, studio.contexts.__getitem__, no_tags, observer)
    finally:
        tracemalloc.stop()
    assert len(sizes) == CHUNKS
    assert max(sizes[FILLED:]) - sizes[FILLED] < A_CHUNK * (CHUNKS - FILLED)
