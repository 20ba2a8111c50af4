"""Live changes while a film is rendered: new prompts, and its end.

A `Live` connects the rendering thread, which reads the plan before every chunk, with other threads, which may change
the plan from the next chunk on. They change the plan itself, so the film is the one that its final timeline, rendered
from the start, would give.

Prompts are limited in number and length, as in a timeline (`timeline/limits.py`), in rate, and in how far ahead they
may be.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..timeline import MAX_SECONDS, NewSegment, Plan, TimelineError, parse_time, plan_text, with_segments
from ..timeline.limits import digits
from ..words.wording import count, shorten

GROWTH = 16  # chunks by which the plan of an endless film grows
AHEAD = 3600.0  # seconds by which a prompt of an endless film may be ahead of what is rendered
PROMPTS, WITHIN = 30, 10.0  # at most this many prompts in this many seconds: more than a person can type
NOW = "now"


class TooLate(ValueError):
    """The film is finished, or the chunk is already rendered."""


class TooFast(ValueError):
    """Changes come faster than allowed. retry_after: seconds until the next one is accepted."""

    def __init__(self, message: str, retry_after: float):
        self.retry_after = retry_after
        super().__init__(message)


@dataclass
class Progress:
    """The progress of a film.

    Attributes:
        takes: ids of the take, the newest last: a changed plan gives it a new one. chunk: chunks done. frames: pixel
            frames done.
        rendered, rendered_frames: those rendered in this run; the others were stored. seconds: since the run began.
        repaired: numbers of stored chunks that were damaged or removed and rendered again; True: their latents, False:
            their video.
        notes: messages about other changes to stored files during the render.
        no_room: why the film ended early if the store's limit left no space; else None.
    """

    takes: list[str] = field(default_factory=list)
    chunk: int = 0
    frames: int = 0
    rendered: int = 0
    rendered_frames: int = 0
    repaired: dict[int, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    no_room: str | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def take(self) -> str:
        return self.takes[-1] if self.takes else ""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


class Live:
    """One film while it is rendered. Every method may be called from any thread.

    Args:
        plan: the plan at the start.
        endless: render until `finish`, under the last prompt.
        longest_shot: most chunks of a shot (`StreamConfig.longest_shot`), after which an endless film ends by itself.
    """

    def __init__(
        self,
        plan: Plan,
        endless: bool = False,
        longest_shot: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.endless, self.longest_shot = endless, longest_shot
        self.progress = Progress()
        self._plan, self._next = plan, 0
        self._finishing = self._finished = False
        self._lock, self._clock = threading.Lock(), clock
        self._came: deque[float] = deque(maxlen=PROMPTS)  # times of the last prompts

    # --- for other threads

    def prompt(self, text: str, at: str | float = NOW, transition: str = "recache") -> int:
        """Change the prompt at a chunk boundary that is still ahead; return the chunk.

        Args:
            text: as in a timeline, with options in braces.
            at: "now" for the next boundary, or a time of the film as in a timeline, or seconds.
            transition: recache, keep or cut.

        Raises:
            TimelineError: not allowed in a timeline. TooLate: that chunk can no longer change. TooFast: too many
                prompts. ValueError: any other invalid prompt, or one too far ahead.
        """
        with self._lock:
            self._check_running()
            self._check_rate()
            chunk = self._chunk(at)
            plan = with_segments(self._reaching(chunk), [NewSegment(chunk, text, transition)])
            if self.longest_shot is not None and plan.longest_shot > self.longest_shot and not self.endless:
                raise ValueError(
                    f"without the cut at chunk {chunk} a shot would have "
                    f"{count(plan.longest_shot, 'chunk')}; with absolute positions it has at most "
                    f"{self.longest_shot}"
                )
            self._plan = plan
            return chunk

    def finish(self) -> None:
        """End the film after the chunk being rendered. TooLate if it has ended."""
        with self._lock:
            self._check_running()
            self._finishing = True

    def status(self, timeline: bool = True) -> dict:
        """Return plain data: state, chunks and frames done, speed, remaining time, the current prompt.

        timeline: whether to include the whole timeline, which may be long.
        """
        with self._lock:  # rendering waits for this lock, so nothing in here takes long
            plan, done, made, following = self._plan, self.progress.chunk, self.progress.rendered, self._next
            seconds, take, frames = self.progress.seconds, self.progress.take, self.progress.frames
            state = "finished" if self._finished else "finishing" if self._finishing else "rendering"
        speed = made / seconds if made else None
        left = None if speed is None or self.endless else (plan.chunks - done) / speed
        segment = plan.segment_at(max(0, done - 1))
        status = {
            "state": state,
            "take": take,
            "chunks_done": done,
            "next_chunk": following,
            "chunks": None if self.endless else plan.chunks,
            "frames": frames,
            "frames_per_second": speed and round(speed * 4 * plan.chunk, 2),
            "eta_seconds": left and round(left, 1),
            "segment": {"chunk": segment.start_chunk, "text": segment.text},
        }
        return {**status, "timeline": plan_text(plan)} if timeline else status

    @property
    def finishing(self) -> bool:
        """Whether `finish` was called."""
        return self._finishing and self.progress.no_room is None

    @property
    def full(self) -> bool:
        """Whether the film has reached the maximum length of a film."""
        return self._next >= self._plan.most_chunks

    # --- for the rendering thread

    def plan_for(self, chunk: int) -> Plan | None:
        """Return the plan for this chunk, which from now on cannot be changed; None: the film ends here.

        An endless film ends at the maximum length of a film (`Plan.most_chunks`).
        """
        with self._lock:
            past = chunk >= (self._plan.most_chunks if self.endless else self._plan.chunks)
            finishing = self._finishing and chunk > 0  # finished before the first chunk, it ends after that chunk
            if past or finishing or self._shot_is_full(chunk):
                self._finished = True
                return None
            if chunk >= self._plan.chunks:
                self._plan = self._reaching(chunk)
            self._next = chunk + 1
            return self._plan

    def became(self, take: str) -> None:
        """Record that the film is now this take."""
        with self._lock:
            self.progress.takes.append(take)

    def done(self, frames: int, rendered: bool) -> None:
        """Record that a chunk is rendered and stored."""
        with self._lock:
            self.progress.chunk += 1
            self.progress.frames += frames
            self.progress.rendered += rendered
            self.progress.rendered_frames += frames if rendered else 0

    def repaired(self, chunk: int, latents: bool) -> None:
        """Record that a stored chunk was damaged, and its latents, or else its video, were rendered again."""
        with self._lock:
            self.progress.repaired[chunk] = latents or self.progress.repaired.get(chunk, False)

    def note(self, text: str) -> None:
        """Record a message about stored files."""
        with self._lock:
            self.progress.notes.append(text)

    def end(self, reason: str) -> None:
        """End the film, as `finish` does, because there is no space for more."""
        with self._lock:
            if not self._finishing:
                self._finishing, self.progress.no_room = True, reason

    def close(self) -> None:
        """Record that the render has ended, for any reason."""
        with self._lock:
            self._finished = True

    def _shot_is_full(self, chunk: int) -> bool:
        if self.longest_shot is None:
            return False
        cuts = [s.start_chunk for s in self._plan.segments if s.transition == "cut" and s.start_chunk <= chunk]
        return chunk - max(cuts, default=0) >= self.longest_shot

    def _check_running(self) -> None:
        if self._finished or self._finishing:
            raise TooLate("the film is finished" if self._finished else "the film ends after this chunk")

    def _check_rate(self) -> None:
        now = self._clock()
        if len(self._came) == PROMPTS and now - self._came[0] < WITHIN:
            wait = self._came[0] + WITHIN - now
            raise TooFast(
                f"{count(PROMPTS, 'prompt')} came within {WITHIN:g} s, which is the most: give the next one "
                f"in {math.ceil(wait)} s",
                wait,
            )
        self._came.append(now)

    def _chunk(self, at: str | float) -> int:
        """Return the chunk at a time; it can still be changed."""
        chunk = self._next if isinstance(at, str) and at.strip() == NOW else self._chunk_at(at)
        if chunk < self._next:
            raise TooLate(f"chunk {chunk} is made already; the next is {self._next}")
        if chunk >= self._plan.chunks and not self.endless:
            raise TooLate(f"chunk {chunk} is past the end of the film, whose last is {self._plan.chunks - 1}")
        if chunk >= self._plan.most_chunks:
            raise TooLate(
                f"chunk {chunk} is past the end of the film: films of this rate have at most "
                f"{count(self._plan.most_chunks, 'chunk')}"
            )
        ahead = max(1, math.floor(AHEAD * self._plan.fps / (4 * self._plan.chunk)))
        if chunk >= self._plan.chunks and chunk > self._next + ahead:
            raise ValueError(
                f"chunk {chunk} is too far ahead: the next is {self._next}, and a film without end takes "
                f"prompts up to {count(ahead, 'chunk')} ({AHEAD / 3600:g} hour) ahead"
            )
        return chunk

    def _chunk_at(self, at: str | float) -> int:
        if isinstance(at, bool) or not isinstance(at, (str, int, float)):
            raise ValueError(f"the time {shorten(repr(at), 40)} is none: give 'now', seconds, or a text such as '12s'")
        if not isinstance(at, str):
            if not 0 <= at <= MAX_SECONDS:  # NaN fails both comparisons
                raise TimelineError(f"the time {digits(at)} is not in the film: give seconds from 0 to {MAX_SECONDS:g}")
            return self._plan.chunk_at(float(at))
        time = parse_time(at, 1, 1).at_rate(self._plan.fps)
        if time.chunk is not None:
            return time.chunk
        return self._plan.chunk_at(min(time.seconds, 2 * MAX_SECONDS))  # anything past the end stays past the end

    def _reaching(self, chunk: int) -> Plan:
        """Return the plan, extended if necessary to contain the chunk and a few more, up to the maximum length."""
        if chunk < self._plan.chunks:
            return self._plan
        return self._plan.resized(min(chunk + GROWTH, self._plan.most_chunks))
