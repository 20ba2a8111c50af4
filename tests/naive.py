"""The naive twin of the rollout: no ring, no slots, no in-place writes. Slow, short, obviously right.

It keeps every frame's unrotated keys and values in a dictionary by absolute frame and, for each pass, picks the frames
that the paper says are visible, concatenates them in time order and rotates them afresh.
"""

import torch

from longlive_core.engine.schedule import add_noise, clean_sample, warp
from longlive_core.model import Rotary
from longlive_core.model.rotary import apply


class NaiveShot:
    def __init__(self, model, stream, latent_size):
        self.model, self.stream, self.size = model, stream, latent_size
        _, ph, pw = model.config.patch_size
        self.grid = (latent_size[0] // ph, latent_size[1] // pw)
        self.kept = {}  # frame -> [(k, v) of each layer]
        self.sink = []  # frames that hold the sink
        self.latents = []

    def run(self, latents, timestep, frames, visible):
        """One pass over `frames`, which see the kept frames `visible` and one another. -> velocity, keys and values."""
        fresh = {frame: [] for frame in frames}
        order = sorted([*visible, *frames]) if self.stream.positions == "absolute" else [*visible, *frames]
        relative = self.stream.positions == "relative"
        place = {frame: (number if relative else frame) for number, frame in enumerate(order)}
        rotary = Rotary(self.model.config.head_dim, self.grid, self.model.device)

        def attend(layer, q, k, v):
            for number, frame in enumerate(frames):
                part = slice(number * self.grid[0] * self.grid[1], (number + 1) * self.grid[0] * self.grid[1])
                fresh[frame].append((k[:, part], v[:, part]))
            pairs = [(fresh[frame] if frame in fresh else self.kept[frame])[layer] for frame in order]
            keys = apply(torch.cat([k for k, _ in pairs], 1), rotary.table([place[frame] for frame in order]))
            values = torch.cat([v for _, v in pairs], 1)
            return self.model.attention(apply(q, rotary.table([place[frame] for frame in frames])), keys, values)

        return self.model.velocity(latents, timestep, self.prompt, attend), fresh

    def seen_before(self, start):
        """Frames visible to a chunk that starts at `start`: the sink, then the most recent ones of the window."""
        if self.stream.window == -1:
            return list(range(start))
        room = self.stream.window - self.stream.sink - self.stream.chunk
        return [*self.sink, *(f for f in range(max(start - room, 0), start) if f not in self.sink)]

    def chunk(self, noise):
        stream, start = self.stream, sum(part.shape[2] for part in self.latents)
        frames = list(range(start, start + stream.chunk))
        visible = self.seen_before(start)
        shape = (self.batch, 16, stream.chunk, *self.size)
        timesteps = [warp(step, stream.shift) for step in stream.denoising_steps]
        latents = noise.draw(start // stream.chunk, 0, shape).to(self.model.device)
        for step, timestep in enumerate(timesteps):
            if step:
                fresh_noise = noise.draw(start // stream.chunk, step, shape).to(self.model.device)
                latents = add_noise(latents, fresh_noise, timestep)
            latents = clean_sample(latents, self.run(latents, timestep, frames, visible)[0], timestep)
        _, fresh = self.run(latents, stream.context_noise, frames, visible)
        self.kept.update(fresh)
        self.sink += [frame for frame in frames if len(self.sink) < stream.sink]
        self.latents.append(latents)
        return latents

    def recache(self):
        stream, total = self.stream, sum(part.shape[2] for part in self.latents)
        window = total if stream.window == -1 else stream.window
        frames = list(range(max(total - window, 0), total))
        latents = torch.cat(self.latents, 2)
        if stream.sink_policy == "held" and total > window:
            # The sink stays; the window's first frames run along but nothing reads their keys.
            frames = frames[stream.sink :]
            _, fresh = self.run(latents[:, :, frames[0] :], stream.context_noise, frames, list(self.sink))
        else:
            self.sink = frames[: stream.sink]
            _, fresh = self.run(latents[:, :, frames[0] :], stream.context_noise, frames, [])
        self.kept.update(fresh)


def naive_chunks(model, spans, chunks, latent_size, stream, noise):
    """Yields the latents of a film's chunks, [B, C, chunk, h, w] each."""
    by_start = {span.start: span for span in spans}
    for index in range(chunks):
        span = by_start.get(index)
        if span and (index == 0 or span.transition == "cut"):
            shot = NaiveShot(model, stream, latent_size)
            shot.batch = span.context.shape[0]
        if span:
            shot.prompt = model.prompt_keys(span.context)
            if index and span.transition == "recache":
                shot.recache()
        yield shot.chunk(noise)


def naive_rollout(model, spans, chunks, latent_size, stream, noise):
    """Latents of a whole film, [B, C, T, h, w]."""
    return torch.cat(list(naive_chunks(model, spans, chunks, latent_size, stream, noise)), 2)
