"""Limits of films and timelines: far beyond practical use, but small enough to be planned in seconds.

Each limit is checked before anything of that size is built, here and nowhere else.
"""

from __future__ import annotations

import math
from numbers import Real

from ..words.wording import count
from .syntax import TimelineError

MAX_SECONDS = 24 * 3600.0
# A day at 16 frames per second in chunks of one latent frame, the smallest, has 345,600.
MAX_CHUNKS = 350_000
MAX_FPS = 1000.0
MAX_SEGMENTS = 10_000  # a prompt every 9 s for a day
MAX_TEXT = 2_000_000  # characters of a whole timeline
MAX_PROMPT = 20_000  # characters of one prompt or anchor; text encoders read 512 tokens


def check_chunks(chunks: int, fps: float | None = None) -> None:
    """Raise ValueError if this is not a number of chunks, TimelineError for too many.

    fps: given if it may be the reason.
    """
    if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
        raise ValueError(f"chunks is {chunks!r}; it must be a whole number from 1")
    if chunks > MAX_CHUNKS:
        at = "" if fps is None else f" at {fps:g} frames per second"
        raise TimelineError(
            f"the film would have {digits(chunks)} chunks{at}; the most is {MAX_CHUNKS}: make it "
            "shorter, or use fewer frames per second"
        )


def check_frames(frames: int, fps: float, chunk: int) -> None:
    """Check MAX_SECONDS for lengths counted in chunks; a duration may snap to up to two chunks more."""
    if frames > most_frames(fps, chunk):
        raise TimelineError(f"the film would last more than {MAX_SECONDS:g} s (24 hours)")


def most_frames(fps: float, chunk: int) -> float:
    """Return the most frames of a film."""
    return MAX_SECONDS * fps + 8 * chunk


def check_seconds(seconds: float) -> None:
    """Raise TimelineError for a film longer than MAX_SECONDS."""
    if not seconds <= MAX_SECONDS:  # also NaN
        raise TimelineError(f"the film would last {seconds:g} s; the most is {MAX_SECONDS:g} s (24 hours)")


def check_fps(fps: float) -> None:
    """Raise ValueError unless this is a number above 0 and at most MAX_FPS."""
    number = isinstance(fps, Real) and not isinstance(fps, bool)
    if not number or not 0 < fps <= MAX_FPS:  # also NaN
        raise ValueError(
            f"fps is {digits(fps) if number else repr(fps)}; it must be a number above 0, {MAX_FPS:g} at most"
        )


def check_text(text: str) -> None:
    """Raise TimelineError for a timeline of more than MAX_TEXT characters."""
    if len(text) > MAX_TEXT:
        raise TimelineError(
            f"the timeline has {len(text)} characters; the most is {MAX_TEXT}: make films of its parts "
            "and extend the take of each with the next"
        )


def check_prompt(text: str, line: int, column: int) -> None:
    """Raise TimelineError for a prompt or an anchor of more than MAX_PROMPT characters."""
    if len(text) > MAX_PROMPT:
        raise TimelineError(f"the prompt has {len(text)} characters; the most is {MAX_PROMPT}", line, column)


def check_segments(segments: int) -> None:
    """Raise TimelineError for more than MAX_SEGMENTS prompts."""
    if segments > MAX_SEGMENTS:
        raise TimelineError(
            f"the timeline has {count(segments, 'prompt')} or more; the most is {MAX_SEGMENTS}: make "
            "films of its parts and extend the take of each with the next"
        )


def digits(number: float) -> str:
    """Return a number in few digits; a Python integer may have thousands."""
    if isinstance(number, float) or abs(number) < 10**15:
        return f"{number:g}" if isinstance(number, float) else str(number)
    return f"about {'-' if number < 0 else ''}10^{int(math.log10(abs(number)))}"
