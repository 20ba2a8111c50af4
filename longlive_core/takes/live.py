"""What may be changed while a film is rendered: new prompts, and its end.

A `Live` stands between the thread that renders, which asks it for the plan before every chunk, and any other thread,
which may change that plan from the next chunk on. What is changed is the plan itself, so the film is the one that its
timeline, rendered from the start, would give.

Prompts are bounded: in their number and length, as a timeline's are (`timeline/limits.py`), in how many come within a
while, and in how far ahead they lie.
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
AHEAD = 3600.0  # seconds of an endless film by which a prompt may lie ahead of what is made
PROMPTS, WITHIN = 30, 10.0  # so many prompts are taken in so many seconds: more than anybody types
NOW = "now"


class TooLate(ValueError):
    """The film is finished, or the chunk in question is made already."""


class TooFast(ValueError):
    """TakeVersions come faster than they can be taken. retry_after: seconds until the next one may come."""

    def __init__(self, message: str, retry_after: float):
        self.retry_after = retry_after
        super().__init__(message)


@dataclass
class Progress:
    """How far a film is.

    Attributes:
        takes: ids of the take, the newest last: a changed plan makes it another. chunk: chunks done. frames: pixel
            frames done.
        rendered, rendered_frames: of those, made in this run; the others were stored. seconds: since the run began.
        repaired: numbers of stored chunks that were damaged or removed, and made again; True: their latents, False:
            their video.
        notes: what else happened to what is stored meanwhile, in words.
        no_room: why the film ended early, where the store's limit left no room; else None.
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
        plan: where it begins.
        endless: render on, the last prompt lasting, until `finish`.
        longest_shot: chunks a shot may have (`StreamConfig.longest_shot`), after which an endless film ends by itself.
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
        self._came: deque[float] = deque(maxlen=PROMPTS)  # when the last prompts did

    # --- for those who watch

    def prompt(self, text: str, at: str | float = NOW, transition: str = "recache") -> int:
        """Change the prompt at a chunk boundary that is not passed yet; returns the chunk.

        Args:
            text: as in a timeline; its options in braces count too.
            at: "now" for the next boundary, else a time of the film as in a timeline, or seconds.
            transition: recache, keep or cut.

        Raises:
            TimelineError: what a timeline may not hold. TooLate: nothing can be changed there any more. TooFast: they
                come too fast. ValueError: anything else that is no prompt, or lies too far ahead.
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
        """End the film after the chunk that is being made. TooLate where it has ended."""
        with self._lock:
            self._check_running()
            self._finishing = True

    def status(self, timeline: bool = True) -> dict:
        """Plain data: state, chunks and frames done, speed, the time that is left, the prompt in force.

        timeline: whether the whole timeline stands in it, which may be long.
        """
        with self._lock:  # which rendering waits for: nothing in here takes long
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
        """Whether somebody asked for the end."""
        return self._finishing and self.progress.no_room is None

    @property
    def full(self) -> bool:
        """Whether the film is as long as a film may be."""
        return self._next >= self._plan.most_chunks

    # --- for the thread that renders

    def plan_for(self, chunk: int) -> Plan | None:
        """The plan with which to make this chunk, which from now on is not to be changed; None: the film ends here.

        An endless film ends where a film is as long as it may be (`Plan.most_chunks`).
        """
        with self._lock:
            past = chunk >= (self._plan.most_chunks if self.endless else self._plan.chunks)
            finishing = self._finishing and chunk > 0  # told so before the first, it ends after that
            if past or finishing or self._shot_is_full(chunk):
                self._finished = True
                return None
            if chunk >= self._plan.chunks:
                self._plan = self._reaching(chunk)
            self._next = chunk + 1
            return self._plan

    def became(self, take: str) -> None:
        """The film is this take now."""
        with self._lock:
            self.progress.takes.append(take)

    def done(self, frames: int, rendered: bool) -> None:
        """A chunk is made and stored."""
        with self._lock:
            self.progress.chunk += 1
            self.progress.frames += frames
            self.progress.rendered += rendered
            self.progress.rendered_frames += frames if rendered else 0

    def repaired(self, chunk: int, latents: bool) -> None:
        """A stored chunk was damaged; its latents, or else its video, are made again."""
        with self._lock:
            self.progress.repaired[chunk] = latents or self.progress.repaired.get(chunk, False)

    def note(self, text: str) -> None:
        """Something happened to what is stored."""
        with self._lock:
            self.progress.notes.append(text)

    def end(self, reason: str) -> None:
        """There is no room for more: the film ends as if somebody had asked for that."""
        with self._lock:
            if not self._finishing:
                self._finishing, self.progress.no_room = True, reason

    def close(self) -> None:
        """The render has ended, in whatever way."""
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
        """The chunk that is meant, one that can still be changed."""
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
            if not 0 <= at <= MAX_SECONDS:  # NaN is neither
                raise TimelineError(f"the time {digits(at)} is not in the film: give seconds from 0 to {MAX_SECONDS:g}")
            return self._plan.chunk_at(float(at))
        time = parse_time(at, 1, 1).at_rate(self._plan.fps)
        if time.chunk is not None:
            return time.chunk
        return self._plan.chunk_at(min(time.seconds, 2 * MAX_SECONDS))  # what lies behind the end does at any rate

    def _reaching(self, chunk: int) -> Plan:
        """The plan, in which that chunk is; an endless film grows a little beyond it, as far as a film may."""
        if chunk < self._plan.chunks:
            return self._plan
        return self._plan.resized(min(chunk + GROWTH, self._plan.most_chunks))
