"""Teacher forcing in parallel: one forward pass over the clean chunks of a clip and several noisy copies of its chunks.

Noisy chunk i attends to what it would see in a rollout: the sink chunk and the last clean chunks of the window, whose
keys come from a clean pass at timestep 0, and itself. A prompt switch is trained as in the rollout: the clean chunks
before the switch run under the new prompt in one bidirectional pass (the recache). While the film is no longer than the
window, this includes the sink; otherwise the sink keeps the old prompt.

The window is LongLive's: four chunks, the first of them the sink. Positions are relative to the window, so the sixth
chunk and the six-hundredth look alike, or absolute, counted from the clip's start.

Shapes: B clips, L tokens, N heads, D head dim. A slot is a place for a chunk in the window: 0 is the sink, 1 and 2 are
the ring's older chunks, 3 is the newest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...config import Positions
from ...model.attention import default_attention
from ...model.rotary import Rotary

EARLIEST_SWITCH = 2  # chunk of a clip
LAST_SLOT = 3  # a window of 12 latent frames holds four chunks


def visible_chunks(chunk: int) -> list[int]:
    """Return the clean chunks that a chunk attends to besides itself, oldest first: the sink and the ring."""
    if chunk <= LAST_SLOT:
        return list(range(chunk))
    return [0, *range(chunk - LAST_SLOT + 1, chunk)]


@dataclass(frozen=True)
class ChunkAttention:
    """One attention call: which chunks are queries, which are keys, and in which slots they are."""

    queries: tuple[int, ...]  # places in the sequence, counted in chunks
    query_slots: tuple[int, ...]
    keys: tuple[int, ...]
    key_slots: tuple[int, ...]


@dataclass(frozen=True)
class ForcingLayout:
    """The layout of a clip of `chunks` chunks as one sequence: clean chunks first, then each noisy copy.

    Attributes:
        clean: chunk numbers of the clean part.
        noisy: chunk numbers of one noisy copy; all copies are alike.
        copies: number of noisy copies.
        switch: chunk at which the prompt changes (0: none).
        held: whether the sink keeps the old prompt.
        first: first noisy chunk (never before the switch). In a clip of a film's first chunk and a series of later
            ones, the chunks from 3 on see what they would see deep in a film.
    """

    chunks: int
    copies: int
    switch: int = 0
    held: bool = False
    first: int = 0

    def __post_init__(self) -> None:
        if self.held and self.switch != LAST_SLOT + 1 and not (self.switch == 0 and self.first >= LAST_SLOT):
            raise ValueError(f"a held sink needs the switch at chunk {LAST_SLOT + 1}, got {self.switch}")

    @property
    def clean(self) -> range:
        return range(self.chunks - 1)

    @property
    def noisy(self) -> range:
        return range(max(self.switch, self.first), self.chunks)

    @property
    def length(self) -> int:
        """Length of the sequence in chunks."""
        return len(self.clean) + self.copies * len(self.noisy)

    def noisy_place(self, copy: int, chunk: int) -> int:
        return len(self.clean) + copy * len(self.noisy) + chunk - self.noisy.start

    def chunk_at(self, place: int) -> int:
        """Return the clip's chunk number at a place of the sequence."""
        if place < len(self.clean):
            return place
        return self.noisy.start + (place - len(self.clean)) % len(self.noisy)

    def old_prompt(self) -> list[bool]:
        """Return for each chunk of the sequence whether it runs under the prompt before the switch."""
        if self.chunks <= EARLIEST_SWITCH:
            return [True] * self.length
        return [self.held and place == 0 for place in range(self.length)]

    def attentions(self) -> list[ChunkAttention]:
        """List the attention calls of a layer."""
        calls = self._recache_attentions()
        for chunk in range(self.switch, self.chunks):
            seen = visible_chunks(chunk)
            slots, own = tuple(range(len(seen))), len(seen)
            places = [chunk] if chunk in self.clean else []
            places += [self.noisy_place(copy, chunk) for copy in range(self.copies) if chunk in self.noisy]
            calls += [ChunkAttention((place,), (own,), (*seen, place), (*slots, own)) for place in places]
        return calls

    def _recache_attentions(self) -> list[ChunkAttention]:
        if not self.switch:
            return []
        before = tuple(range(self.switch))
        if not self.held:
            return [ChunkAttention(before, before, before, before)]
        return [ChunkAttention((0,), (0,), (0,), (0,)), ChunkAttention(before[1:], before[1:], before, before)]


class ForcingAttention:
    """The `attend` callback of `CausalWan.velocity` for a `ForcingLayout`."""

    def __init__(
        self, layout: ForcingLayout, rotary: Rotary, chunk: int, dtype: torch.dtype, positions: Positions = "relative"
    ):
        self.layout, self.attentions = layout, layout.attentions()
        if positions == "absolute" and (layout.held or layout.first):
            raise ValueError("a clip with a gap after its first chunk has no absolute positions; use relative ones")
        if positions == "absolute":  # a slot is then the chunk's own number
            self.attentions = [self._absolute(call) for call in self.attentions]
        slots = LAST_SLOT + 1 if positions == "relative" else layout.chunks
        tables = [rotary.table(range(slot * chunk, (slot + 1) * chunk)) for slot in range(slots)]
        # Interleaved cosines and signed sines [L, 1, D]: a rotation is two products and a swap of neighbours.
        self.cos = [cos.repeat_interleave(2, dim=-1).to(dtype) for cos, _ in tables]
        self.sin = [torch.stack((-sin, sin), dim=-1).flatten(-2).to(dtype) for _, sin in tables]

    def _absolute(self, call: ChunkAttention) -> ChunkAttention:
        queries, keys = (tuple(map(self.layout.chunk_at, places)) for places in (call.queries, call.keys))
        return ChunkAttention(call.queries, queries, call.keys, keys)

    def _rotate(self, x: Tensor, slot: int) -> Tensor:
        swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
        return x * self.cos[slot] + swapped * self.sin[slot]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        qs, ks, vs = (t.chunk(self.layout.length, dim=1) for t in (q, k, v))
        rotated: dict[tuple[int, int], Tensor] = {}
        out: list[Tensor | None] = [None] * self.layout.length
        for call in self.attentions:
            for pair in zip(call.keys, call.key_slots, strict=True):
                if pair not in rotated:
                    rotated[pair] = self._rotate(ks[pair[0]], pair[1])
            queries = zip(call.queries, call.query_slots, strict=True)
            query = _join([self._rotate(qs[place], slot) for place, slot in queries])
            keys = _join([rotated[pair] for pair in zip(call.keys, call.key_slots, strict=True)])
            values = _join([vs[place] for place in call.keys])
            # Fused off the CPU: the score matrix of one chunk of 832x480 would fill two gigabytes per layer.
            attention = matmul_attention if query.device.type == "cpu" else default_attention
            result = attention(query, keys, values)
            for place, part in zip(call.queries, result.chunk(len(call.queries), dim=1), strict=True):
                out[place] = part
        return torch.cat(out, dim=1)


def matmul_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention as two matrix products: twice as fast as PyTorch's on a CPU without bfloat16 matrix tiles."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    return torch.matmul(scores.softmax(dim=-1), v).transpose(1, 2)


def _join(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
