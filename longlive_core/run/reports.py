"""Reports of the Stream Sampler: short texts for people, shown below the node, one statement a line.

The front end wraps lines between words, so nothing is in columns; no line names a folder. The command line has more
space, and texts of its own (`Plan.describe`, `Estimate.describe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..timeline.limits import MAX_CHUNKS, MAX_SECONDS
from ..words.quantities import duration_text, gigabytes, seconds_text
from ..words.wording import PROMPT_WIDTH, count, hint_lines, shorten, shorten_list, shorten_middle
from .film_run import CANCELLED, COMPLETE, FINISHED, FULL, LONGEST, NO_ROOM

if TYPE_CHECKING:
    from .estimate import Estimate
    from .film_run import FilmResult, FilmRun

NAME = 44  # of a file's or a part's name


def beginning_report(
    expected: Estimate,
    reused: int,
    reason: str | None,
    endless: bool,
    without: Sequence[str],
    hints: Sequence[str] = (),
) -> str:
    """Return what the run is about to do.

    reused: the number of stored chunks. reason: why the others are not stored, or None. without: settings and nodes
    that have no effect. hints: how the film differs from what its inputs suggest.
    """
    lines = [] if endless else _reuse(reused, expected.plan.chunks, reason)
    lines.append(_work(expected, endless))
    if expected.need.moving:
        lines.append(f"memory is short: {gigabytes(expected.need.moving)} wait in main memory while not in use")
    if expected.available is not None and expected.need.proposes_int8(expected.available):
        saved = gigabytes(expected.need.saved_by_int8)
        lines.append(f"faster with Quantize INT8: the model then takes {saved} less")
    if expected.limit is not None and expected.limit.to_remove:
        lines.append(f"{gigabytes(expected.limit.to_remove)} of other takes will be removed, to keep to the limit")
    return "\n".join([*lines, *_no_effect(without), *hint_lines(hints)])


def _work(expected: Estimate, endless: bool) -> str:
    speed = expected.speed
    if endless:
        return "renders until Finish" + ("" if speed is None else f", about {speed.seconds:.1f} s a chunk")
    if not expected.made:
        return "nothing to render: every chunk is stored"
    time_needed = "time not measured here yet" if speed is None else f"about {duration_text(expected.seconds)}"
    return f"rendering {count(expected.made, 'chunk')}, {time_needed}"


def progress_line(status: Mapping[str, Any], fps: float) -> str:
    """Return the progress of a film, and its prompt in a second line. status: of `Live`."""
    done, chunks, left = status["chunks_done"], status["chunks"], status["eta_seconds"]
    parts = [
        f"{count(done, 'chunk')}, {seconds_text(status['frames'] / fps)}"
        if chunks is None
        else f"{done} of {count(chunks, 'chunk')}"
    ]
    if left:
        parts.append(f"{duration_text(left)} left")
    if status["frames_per_second"]:
        parts.append(f"{status['frames_per_second']:.1f} frames/s")
    return f"{', '.join(parts)}\n{shorten(status['segment']['text'], PROMPT_WIDTH)}"


def result_facts(result: FilmResult, run: FilmRun) -> dict[str, Any]:
    """Return the facts of a finished run as plain data; see docs/api.md."""
    done, fps = result.progress, run.request.plan.fps
    return {
        "frames": done.frames,
        "seconds": round(done.frames / fps, 3),
        "fps": fps,
        "chunks": done.chunk,
        "chunks_asked": None if run.request.endless else run.request.plan.chunks,
        "take": result.take.id,
        "partial": result.ended == CANCELLED or done.chunk < result.take.plan.chunks,
        "ended": result.ended,
        "no_room": done.no_room,
        "repaired": repaired_line(done.repaired),
        "rendered_chunks": done.rendered,
        "render_seconds": round(result.seconds, 3),
        "frames_per_second": round(done.rendered_frames / result.seconds, 2) if done.rendered else None,
        "segments": [
            {
                "start_seconds": round(segment.start_seconds, 3),
                "start_frame": segment.start_frame,
                "start_chunk": segment.start_chunk,
                "transition": segment.transition,
                "text": segment.text,
            }
            for segment in result.take.plan.segments
        ],
    }


def film_report(facts: Mapping[str, Any], reused: int, reason: str | None) -> str:
    """Return what a run rendered. facts: the sampler's report, see docs/api.md."""
    film = f"{seconds_text(facts['seconds'])}: {count(facts['frames'], 'frame')}, {facts['width']}x{facts['height']}"
    lines = [film, *_ending(facts)]
    if facts["frames_per_second"] is not None:
        lines.append(f"rendered in {facts['render_seconds']:.1f} s, {facts['frames_per_second']:.1f} frames/s")
    if facts["chunks_asked"] is not None:
        lines += _reuse(reused, facts["chunks_asked"], reason)
    lines += [facts["repaired"]] if facts["repaired"] else []
    lines.append(f"take {facts['take']}")
    return "\n".join([*lines, *_no_effect(facts["no_effect"]), *hint_lines(facts["hints"])])


def repaired_line(repaired: Mapping[int, bool]) -> str:
    """Return which stored chunks were damaged or missing; empty if none was. repaired: see `Progress`."""
    if not repaired:
        return ""
    kinds = {True: "rendered again", False: "video encoded again from the latents"}
    parts = [
        f"{shorten_list(chunks)}: {kinds[kind]}"
        for kind in kinds
        if (chunks := sorted(chunk for chunk, latents in repaired.items() if latents == kind))
    ]
    were = "chunk was" if len(repaired) == 1 else "chunks were"
    return f"{len(repaired)} stored {were} damaged or missing ({'; '.join(parts)})"


def _ending(facts: Mapping[str, Any]) -> list[str]:
    done, requested, ended = facts["chunks"], facts["chunks_asked"], facts["ended"]
    of_all = count(done, "chunk") if requested is None else f"{done} of {count(requested, 'chunk')}"
    if ended == NO_ROOM:
        return [f"ended after {of_all}: {facts['no_room']}"]
    return {
        COMPLETE: [],
        CANCELLED: [f"cancelled after {of_all}: queue again to continue"],
        FINISHED: [f"finished by hand after {of_all}"],
        FULL: ["ended by itself: absolute positions end here; relative ones have no end"],
        LONGEST: [
            f"ended by itself: a film has at most {MAX_SECONDS / 3600:g} hours and {count(MAX_CHUNKS, 'chunk')}; "
            "start another one from its last latents or its last frame (Take Frames)"
        ],
    }[ended]


def _reuse(reused: int, chunks: int, reason: str | None) -> list[str]:
    """Return a line about reused chunks; none for a first render."""
    if not reused and reason is None:
        return []
    return [f"{f'{reason}: ' if reason else ''}{reused} of {count(chunks, 'chunk')} reused"]


def _no_effect(things: Sequence[str]) -> list[str]:
    lines = (line.partition(": ") for line in things)
    return [f"no effect here: {shorten_middle(name, NAME)}{colon}{reason}" for name, colon, reason in lines]
