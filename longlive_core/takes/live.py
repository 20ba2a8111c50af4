"""What may be changed while a film is rendered: new prompts, and its end.

A `Live` stands between the thread that renders, which asks it for the plan before every chunk, and any other thread,
which may change that plan from the next chunk on. What is changed is the plan itself, so the film is the one that its
timeline, rendered from the start, would give.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from ..timeline import Plan, parse_time
from ..wording import count

GROWTH = 16  # chunks by which the plan of an endless film grows
NOW = "now"


class TooLate(ValueError):
    """The film is finished, or the chunk in question is made already."""


class TooFast(ValueError):
    """Changes come faster than they can be taken. retry_after: seconds until the next one may come."""

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

    def __init__(self, plan: Plan, endless: bool = False, longest_shot: int | None = None):
        self.endless, self.longest_shot = endless, longest_shot
        self.progress = Progress()
        self._plan, self._next = plan, 0
        self._finishing = self._finished = False
        self._lock = threading.Lock()

    # --- for those who watch

    def prompt(self, text: str, at: str | float = NOW, transition: str = "recache") -> int:
        """Change the prompt at a chunk boundary that is not passed yet; returns the chunk.

        Args:
            text: as in a timeline; its options in braces count too.
            at: "now" for the next boundary, else a time of the film as in a timeline, or seconds.
            transition: recache, keep or cut.

        Raises:
            TimelineError: what a timeline may not hold. TooLate: nothing can be changed there any more.
        """
        with self._lock:
            self._check_running()
            plan = self._plan
            chunk = self._next if at == NOW else self._chunk_at(at)
            if chunk < self._next:
                raise TooLate(f"chunk {chunk} is made already; the next is {self._next}")
            if chunk >= plan.chunks:
                if not self.endless:
                    raise TooLate(f"chunk {chunk} is past the end of the film, whose last is {plan.chunks - 1}")
                plan = plan.resized(chunk + GROWTH)
            plan = plan.with_segment(chunk, text, transition)
            if self.longest_shot is not None and plan.longest_shot > self.longest_shot and not self.endless:
                raise ValueError(f"without the cut at chunk {chunk} a shot would have "
                                 f"{count(plan.longest_shot, 'chunk')}; with absolute positions it has at most "
                                 f"{self.longest_shot}")  # fmt: skip
            self._plan = plan
            return chunk

    def finish(self) -> None:
        """End the film after the chunk that is being made. TooLate where it has ended."""
        with self._lock:
            self._check_running()
            self._finishing = True

    def status(self) -> dict:
        """Plain data: state, chunks and frames done, speed, the time that is left, the prompt in force."""
        with self._lock:
            plan, done, made = self._plan, self.progress.chunk, self.progress.rendered
            seconds = self.progress.seconds
            speed = made / seconds if made else None
            left = None if speed is None or self.endless else (plan.chunks - done) / speed
            segment = max((s for s in plan.segments if s.start_chunk <= max(0, done - 1)), key=lambda s: s.start_chunk)
            state = "finished" if self._finished else "finishing" if self._finishing else "rendering"
            return {
                "state": state, "take": self.progress.take, "chunks_done": done, "next_chunk": self._next,
                "chunks": None if self.endless else plan.chunks, "frames": self.progress.frames,
                "frames_per_second": speed and round(speed * 4 * plan.chunk, 2), "eta_seconds": left and round(left, 1),
                "segment": {"chunk": segment.start_chunk, "text": segment.text}, "timeline": plan.to_text(),
            }  # fmt: skip

    @property
    def finishing(self) -> bool:
        """Whether somebody asked for the end."""
        return self._finishing and self.progress.no_room is None

    # --- for the thread that renders

    def plan_for(self, chunk: int) -> Plan | None:
        """The plan with which to make this chunk, which from now on is not to be changed; None: the film ends here."""
        with self._lock:
            past = chunk >= self._plan.chunks and not self.endless
            finishing = self._finishing and chunk > 0  # told so before the first, it ends after that
            if past or finishing or self._shot_is_full(chunk):
                self._finished = True
                return None
            if chunk >= self._plan.chunks:
                self._plan = self._plan.resized(chunk + GROWTH)
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

    def _chunk_at(self, at: str | float) -> int:
        asked = parse_time(at if isinstance(at, str) else f"{at}s", 1, 1).at_rate(self._plan.fps)
        return self._plan.chunk_at(asked.seconds) if asked.chunk is None else asked.chunk
