"""Rebuild the KV cache of a film from its stored latents, bit for bit, with as few clean passes as possible.

The cache is never stored, because it follows from the latents and the prompts. What the next chunk of a shot sees was
written by the last *rebuild* (the start of the shot, or a recache) and by the clean passes since then:

1. A recache at frame f reads the last min(W, f) latents, W the window, and its own prompt. If f > W and the sink is
   held, it also reads the old sink.
2. A held sink was written by the last recache at f <= W (which reads all latents so far, not only the sink's), or by
   the clean passes of the first chunks.
3. After the rebuild, each chunk is written under its own prompt. The keys of layer l depend on (l - 1) rings before
   them, so the end of a long stretch is enough: layers * (ring - 1) chunks, with the right sink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..device.transfer import send
from .shot import PromptSpan, Shot

Latents = Callable[[int], Tensor]
"""Chunk index in the shot -> its latents [B, C, chunk, h, w], float32, on any device."""


def restore(shot: Shot, spans: Sequence[PromptSpan], latents: Latents, chunk: int, cancel_point: Callable[[], None]):
    """Bring a new `shot` to its state before chunk `chunk`, and before a prompt switch at that chunk.

    Args:
        spans: the shot's prompts, with starts relative to the shot; the first starts at 0.
        latents: of the shot's chunks before `chunk`.
        cancel_point: called before every pass; may raise to cancel.
    """
    shot.switch(spans[0].context, "cut", lambda step: None)
    _Restorer(shot, spans, latents, cancel_point).to(chunk)


class _Restorer:
    def __init__(self, shot: Shot, spans: Sequence[PromptSpan], latents: Latents, cancel_point: Callable[[], None]):
        self.shot, self.latents, self.cancel_point = shot, latents, cancel_point
        self.prompts = {span.start: span.context for span in spans}
        self.recaches = [span.start for span in spans[1:] if span.transition == "recache"]
        self._current = 0  # start of the prompt that the shot uses now

    def to(self, chunk: int) -> None:
        before = [start for start in self.recaches if start < chunk]
        if chunk in self.recaches:  # the recache rebuilds all but a held sink, from the window's latents
            if self._reads_sink(chunk):
                self._restore_sink(chunk)
        elif before:
            self._rebuild(before[-1])
            self._run(before[-1], chunk)
        else:
            self._run(0, chunk)
        self._set_position(chunk)

    def _reads_sink(self, start: int) -> bool:
        """Return whether a recache before this chunk leaves the sink unchanged."""
        held = self.shot.stream.sink_policy == "held" and self.shot.stream.sink > 0
        return held and start * self.shot.stream.chunk > self.shot.window

    def _restore_sink(self, before: int) -> None:
        writers = [start for start in self.recaches if start < before and not self._reads_sink(start)]
        if writers:
            self._rebuild(writers[-1])
        self._fill_sink(writers[-1] if writers else 0, before)

    def _rebuild(self, start: int) -> None:
        if self._reads_sink(start):
            self._restore_sink(start)
        self._set_position(start)
        self.cancel_point()
        self.shot.switch(self.prompts[start], "recache", lambda step: None)
        self._current = start

    def _fill_sink(self, chunk: int, end: int) -> int:
        """Run clean passes from `chunk` until the sink is full or `end` is reached; return the chunk after them."""
        while chunk < end and self.shot.cache.sink_count < self.shot.stream.sink:
            self._feed(chunk)
            chunk += 1
        return chunk

    def _run(self, start: int, end: int) -> None:
        """Run the clean passes of chunks `start`, the cache's position, to `end` - 1; skip those without effect."""
        cache, size = self.shot.cache, self.shot.stream.chunk
        start = self._fill_sink(start, end)
        reach = self.shot.model.config.num_layers * (cache.ring // size - 1)
        if start < end - reach:
            cache.skip((end - reach - start) * size)
            start = end - reach
            self._set_position(start)
            self._use_prompt_of(start)
        for chunk in range(start, end):
            self._feed(chunk)

    def _feed(self, chunk: int) -> None:
        self._use_prompt_of(chunk)
        self.cancel_point()
        self.shot.feed(send(self.latents(chunk), self.shot.model.device))

    def _use_prompt_of(self, chunk: int) -> None:
        start = max(start for start in self.prompts if start <= chunk)
        if start != self._current:
            self.shot.switch(self.prompts[start], "keep", lambda step: None)
            self._current = start

    def _set_position(self, chunk: int) -> None:
        """Set the shot's position to before `chunk`, with the latents that a recache reads."""
        recent = self.shot.recent
        recent.clear()
        recent.extend(
            send(self.latents(number), self.shot.model.device) for number in range(max(0, chunk - recent.maxlen), chunk)
        )
        self.shot.chunks = chunk
