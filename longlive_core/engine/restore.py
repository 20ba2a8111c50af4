"""The cache of a film that goes on from stored latents: the fewest clean passes that give it bit for bit.

A cache is never stored; it follows from the latents and the prompts. What a shot's next chunk sees was written by the
last *rebuild*, which is the shot's start or a recache, and by the clean passes since:

1. A recache at frame f reads the last min(W, f) latents, W the window, and its own prompt. If f > W and the sink is
   held, it also reads the sink as it was.
2. A held sink was written by the last recache at f <= W (which reads all latents so far, not the sink's alone), or by
   the clean passes of the shot's first chunks.
3. From the rebuild on, chunk after chunk under its own prompt. The keys of layer l look (l - 1) times one ring back, so
   of a long stretch its end is enough: layers * (ring - 1) chunks, with the right sink.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..device.transfer import send
from .shot import PromptSpan, Shot

Latents = Callable[[int], Tensor]
"""Chunk of the shot -> its latents [B, C, chunk, h, w], float32, on any device."""


def restore(shot: Shot, spans: Sequence[PromptSpan], latents: Latents, chunk: int, cancel_point: Callable[[], None]):
    """Bring a new `shot` to where it was before its chunk `chunk`, and before the change of prompt at it, if any.

    Args:
        spans: the shot's prompts, their starts counted from the shot's start; the first starts at 0.
        latents: of its chunks before `chunk`.
        cancel_point: called before every pass, may raise.
    """
    shot.switch(spans[0].context, "cut", lambda step: None)
    _Restorer(shot, spans, latents, cancel_point).to(chunk)


class _Restorer:
    def __init__(self, shot: Shot, spans: Sequence[PromptSpan], latents: Latents, cancel_point: Callable[[], None]):
        self.shot, self.latents, self.cancel_point = shot, latents, cancel_point
        self.prompts = {span.start: span.context for span in spans}
        self.recaches = [span.start for span in spans[1:] if span.transition == "recache"]
        self._current = 0  # start of the prompt that the shot runs under

    def to(self, chunk: int) -> None:
        before = [start for start in self.recaches if start < chunk]
        if chunk in self.recaches:  # it rebuilds all but a held sink, from the window's latents
            if self._reads_sink(chunk):
                self._restore_sink(chunk)
        elif before:
            self._rebuild(before[-1])
            self._run(before[-1], chunk)
        else:
            self._run(0, chunk)
        self._seat(chunk)

    def _reads_sink(self, start: int) -> bool:
        """Whether a recache before this chunk leaves the sink as it finds it."""
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
        self._seat(start)
        self.cancel_point()
        self.shot.switch(self.prompts[start], "recache", lambda step: None)
        self._current = start

    def _fill_sink(self, chunk: int, end: int) -> int:
        """Clean passes from `chunk` on until the sink is full or `end` is reached; returns the chunk after them."""
        while chunk < end and self.shot.cache.sink_count < self.shot.stream.sink:
            self._feed(chunk)
            chunk += 1
        return chunk

    def _run(self, start: int, end: int) -> None:
        """Clean passes of the chunks from `start`, where the cache stands, to before `end`; the middle is left out."""
        cache, size = self.shot.cache, self.shot.stream.chunk
        start = self._fill_sink(start, end)
        reach = self.shot.model.config.num_layers * (cache.ring // size - 1)
        if start < end - reach:
            cache.skip((end - reach - start) * size)
            start = end - reach
            self._seat(start)
            self._take_prompt_of(start)
        for chunk in range(start, end):
            self._feed(chunk)

    def _feed(self, chunk: int) -> None:
        self._take_prompt_of(chunk)
        self.cancel_point()
        self.shot.feed(send(self.latents(chunk), self.shot.model.device))

    def _take_prompt_of(self, chunk: int) -> None:
        start = max(start for start in self.prompts if start <= chunk)
        if start != self._current:
            self.shot.switch(self.prompts[start], "keep", lambda step: None)
            self._current = start

    def _seat(self, chunk: int) -> None:
        """Let the shot stand before `chunk`, with the latents a recache reads."""
        recent = self.shot.recent
        recent.clear()
        recent.extend(
            send(self.latents(number), self.shot.model.device) for number in range(max(0, chunk - recent.maxlen), chunk)
        )
        self.shot.chunks = chunk
