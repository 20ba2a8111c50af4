"""The rolling key/value cache: [ sink | ring of chunks ], written in place.

Layout. Per layer one tensor of keys and one of values, [B, slots * tokens of a frame, N, D]; a slot holds one latent
frame. The first `sink` slots keep the first frames of the shot for good; the others are a ring that chunks go around. A
chunk being denoised already occupies the ring slots of the chunk it replaces (which has left the window), so
nothing is ever moved, cloned or concatenated, and a full cache has one shape.

Protocol. One pass at a time:

    span = cache.next_chunk()             # or cache.rebuild(frames, hold_sink) for a recache
    for each layer: k, v = cache.exchange(layer, span, k, v)
    cache.commit(span)                    # after the clean pass or the recache only

Denoising passes write and read but are never committed: the next pass takes the same span and overwrites them. An
interrupted pass therefore changes nothing. Committing a span other than the one returned last raises
RuntimeError. All bookkeeping is Python ints.

Slot order is not time order once the ring has turned. With absolute positions that does not matter, since attention
is indifferent to the order of its keys; with relative positions `Span.positions` gives the position of each slot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..device.placement import to_main_memory


@dataclass(frozen=True)
class Span:
    """The slots that one pass writes and the slots that it sees.

    Attributes:
        start, frames: the slots written.
        visible: the pass sees slots 0 to visible - 1.
        positions: of each visible slot in time order inside the window (0: the oldest).
        sink_count, ring_count: the cache's bookkeeping once this span is committed.
    """

    start: int
    frames: int
    visible: int
    positions: tuple[int, ...]
    sink_count: int
    ring_count: int

    @property
    def own_positions(self) -> tuple[int, ...]:
        """Positions of the slots written."""
        return self.positions[self.start : self.start + self.frames]


@dataclass(frozen=True)
class Snapshot:
    """A copy of a cache, which `RollingCache.load` restores."""

    keys: Tensor
    values: Tensor
    sink_count: int
    ring_count: int


class RollingCache:
    """Keys and values of one shot.

    Args:
        layers, batch, heads, head_dim: of the model.
        device: where passes read and write the cache.
        window: all slots, in latent frames (without a window: the length of the shot).
        sink, chunk: latent frames; sink and window - sink are multiples of chunk.
        tokens: tokens of a latent frame.
    """

    def __init__(
        self,
        *,
        layers: int,
        batch: int,
        window: int,
        sink: int,
        chunk: int,
        tokens: int,
        heads: int,
        head_dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ):
        assert sink % chunk == 0 and (window - sink) % chunk == 0 and window >= sink + chunk
        self.window, self.sink, self.chunk, self.tokens = window, sink, chunk, tokens
        shape = (layers, batch, window * tokens, heads, head_dim)
        self.device = device
        self._keys: Tensor | None = torch.zeros(shape, device=device, dtype=dtype)
        self._values: Tensor | None = torch.zeros(shape, device=device, dtype=dtype)
        self.nbytes = self._keys.nbytes + self._values.nbytes
        self._offloaded: tuple[Tensor, Tensor] | None = None  # in main memory; the buffers are reused
        self._expected: Span | None = None
        self.reset()

    @property
    def ring(self) -> int:
        """Slots of the ring."""
        return self.window - self.sink

    @property
    def allocated(self) -> int:
        """Bytes on the device now; see `device/placement.py`."""
        return 0 if self._keys is None else self.nbytes

    def offload(self) -> None:
        """Move the cache to main memory, between two passes."""
        if self._keys is not None:
            keys, values = self._offloaded or (None, None)
            self._offloaded = (to_main_memory(self._keys, keys), to_main_memory(self._values, values))
            self._keys = self._values = None

    def reload(self) -> None:
        """Move the cache back to the device, before the next pass."""
        if self._keys is None:
            self._keys, self._values = (tensor.to(self.device, non_blocking=True) for tensor in self._offloaded)

    def reset(self) -> None:
        """Clear the cache: a new shot begins."""
        self.sink_count = 0  # frames in the sink
        self.ring_count = 0  # frames that ever entered the ring since it was last rebuilt
        self._expected = None

    def next_chunk(self) -> Span:
        """Return the span of the next chunk's passes: in the sink until it is full, then around the ring."""
        chunk = self.chunk
        if self.sink_count < self.sink:
            end = self.sink_count + chunk
            span = Span(self.sink_count, chunk, end, tuple(range(end)), end, 0)
        else:
            turned = self.ring_count % self.ring
            visible = self.sink + min(self.ring_count + chunk, self.ring)
            # The slot after the new chunk holds the oldest of a full ring; an unfilled ring starts at slot 0.
            oldest = (turned + chunk) % self.ring if visible == self.window else 0
            ring = ((slot - oldest) % self.ring + self.sink for slot in range(visible - self.sink))
            positions = (*range(self.sink), *ring)
            span = Span(self.sink + turned, chunk, visible, positions, self.sink, self.ring_count + chunk)
        self._expected = span
        return span

    def rebuild(self, frames: int, hold_sink: bool) -> Span:
        """Return the span of a recache over the last frames of a shot, in one pass, oldest first.

        Args:
            frames: latent frames of the shot so far (at least 1).
            hold_sink: keep the sink unchanged. While the window still reaches the start of the shot, the sink is
                rewritten anyway, because its frames are part of the window (LongLive's behaviour).
        """
        held = hold_sink and frames > self.window
        seen = min(frames, self.window)
        sink = min(seen, self.sink)
        start = self.sink if held else 0
        self._expected = Span(start, seen - start, seen, tuple(range(seen)), sink, seen - sink)
        return self._expected

    def skip(self, frames: int) -> None:
        """Advance the ring as if this many frames had entered it, without writing their keys and values."""
        self.ring_count += frames
        self._expected = None

    def snapshot(self) -> Snapshot:
        """Return a copy of the cache."""
        return Snapshot(self._keys.clone(), self._values.clone(), self.sink_count, self.ring_count)

    def load(self, snapshot: Snapshot) -> None:
        """Restore a snapshot."""
        self._keys.copy_(snapshot.keys)
        self._values.copy_(snapshot.values)
        self.sink_count, self.ring_count = snapshot.sink_count, snapshot.ring_count
        self._expected = None

    def write(self, layer: int, span: Span, keys: Tensor, values: Tensor) -> None:
        """Write a layer's keys and values [B, span.frames * tokens, N, D] into the span's slots."""
        place = slice(span.start * self.tokens, (span.start + span.frames) * self.tokens)
        self._keys[layer, :, place].copy_(keys)
        self._values[layer, :, place].copy_(values)

    def exchange(self, layer: int, span: Span, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write a layer's keys and values and return those that the pass sees.

        In training, gradients reach the span's own keys and values; everything else in the cache is a constant.
        """
        self.write(layer, span, keys.detach(), values.detach())
        seen = self.visible(layer, span)
        if not (torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad)):
            return seen
        first, end = span.start * self.tokens, (span.start + span.frames) * self.tokens
        return tuple(
            torch.cat([past[:, :first], own, past[:, end:]], dim=1)
            for past, own in zip(seen, (keys, values), strict=True)
        )

    def visible(self, layer: int, span: Span) -> tuple[Tensor, Tensor]:
        """Return what a pass over this span sees: keys and values [B, span.visible * tokens, N, D], as views."""
        end = span.visible * self.tokens
        return self._keys[layer, :, :end], self._values[layer, :, :end]

    def commit(self, span: Span) -> None:
        """Keep what was written for this span."""
        if span is not self._expected:
            raise RuntimeError("commit of a span that is not the one returned last; call next_chunk or rebuild first")
        self.sink_count, self.ring_count = span.sink_count, span.ring_count
        self._expected = None
