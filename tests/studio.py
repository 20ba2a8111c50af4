"""A small studio for tests of takes: a tiny model, a store, and what was done to render."""

import av
import torch

from longlive_core.config import StreamConfig
from longlive_core.film.video import Encoding
from longlive_core.takes import Observer, Origin, VaeIdentity, open_take, render_take
from longlive_core.timeline import parse
from tests.conftest import LATENT_SIZE

VAE = VaeIdentity("vae", "float32", 4)
SIZE = (LATENT_SIZE[1] * 8, LATENT_SIZE[0] * 8)
STORY = "0c a\n2c b\n6c c {keep}\n8c b"
CHUNKS = 10


class Stop(Exception):
    pass


def no_tags(take):
    return {}


def observing(**methods):
    """An observer with these methods instead of its own."""
    observer = Observer()
    for name, method in methods.items():
        assert hasattr(observer, name), name
        setattr(observer, name, method)
    return observer


class Studio:
    """Renders timelines into one store, and counts what the model and the decoder do for it."""

    def __init__(self, model, contexts, decoder, store):
        self.model, self.contexts, self.decoder, self.store = model, contexts, decoder, store

    def open(self, text=STORY, chunks=CHUNKS, seed=3, crf=18, stream=None):
        plan = parse(text).plan((12 * chunks - 3 * (1 + text.count("{cut}"))) / 16)
        assert plan.chunks == chunks
        origin = Origin("model", "text", "float32", stream or StreamConfig(), SIZE, seed)
        return open_take(self.store, text, plan, origin, Encoding(*SIZE, crf=crf), VAE)

    def render(self, take, stop_at=None, live=None):
        """Return addresses of the computed passes, and numbers of the decoded chunks. Stops at the pass `stop_at`."""
        steps, decoded = [], []

        def on_step(chunk, step):
            if stop_at is not None and len(steps) == stop_at:
                raise Stop
            steps.append((chunk, step))

        def on_chunk(chunk, frames):
            if frames is not None:
                decoded.append(chunk)

        self.take = render_take(
            take,
            self.model,
            self.decoder,
            self.contexts.__getitem__,
            no_tags,
            observing(chunk=on_chunk, step=on_step),
            live,
        )
        return steps, decoded

    def latents(self, take):
        return [self.store.load_latents(key) for key in take.manifest.keys if self.store.has_latents(key)]


def frames_of(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def complete(take):
    """Whether there is nothing to render, decode or encode."""
    store = take.store
    return all(store.has_latents(unit.key) and store.has_unit(unit.key, unit.unit) for unit in take.manifest.units())
