"""Descriptions of takes: a line in a list, a report below a node."""

from __future__ import annotations

import time

from ..words.quantities import seconds_text
from ..words.wording import PROMPT_WIDTH, count, shorten
from .branch_points import BranchPoint
from .manifest import Manifest
from .store import TakeStore

LABEL_WORDS = 48  # characters of a prompt in a list


def take_choices(store: TakeStore) -> list[str]:
    """Return `take_label` for every take of a store, the one rendered last first; damaged ones last."""
    takes, stored = list(store.takes()), store.stored_keys()
    whole = sorted((take for take in takes if isinstance(take, Manifest)), key=lambda take: take.recency, reverse=True)
    labels = [take_label(take, store.rendered(take, stored)) for take in whole]
    return [*labels, *(f"cannot be read [{take.take}]" for take in takes if not isinstance(take, Manifest))]


def take_label(take: Manifest, rendered: int) -> str:
    """Describe a take in a list: date, length, size, first words, id in brackets. rendered: chunks from its start."""
    size = "{}x{}".format(*take.origin["size"])
    words = shorten(take.segments[0]["text"], LABEL_WORDS)
    return f"{when(take)} · {take_length(take, rendered)} · {size} · {words} [{take.id}]"


def take_report(take: Manifest, chunks: int) -> str:
    """Describe a take of `chunks` chunks in short."""
    size = "{}x{}".format(*take.origin["size"])
    lines = [
        f"{seconds_text(take.seconds(chunks))}: {count(chunks, 'chunk')}, {size}",
        shorten(take.segments[0]["text"], PROMPT_WIDTH),
        f"take {take.id} of {when(take)}",
    ]
    return "\n".join(lines)


def branch_report(take: Manifest, place: BranchPoint) -> str:
    """Describe where a take was branched, which is at a chunk's end."""
    requested = "" if place.requested is None else f" ({seconds_text(place.requested)} requested)"
    at = f"branched at {seconds_text(place.seconds)}{requested}: {count(place.chunks, 'chunk')} stay"
    last = [segment for segment in take.segments if segment["chunk"] < place.chunks][-1]
    return "\n".join(
        [
            at + ("s" if place.chunks == 1 else ""),
            f"ends with: {shorten(last['text'], PROMPT_WIDTH)}",
            f"take {take.id}",
        ]
    )


def take_length(take: Manifest, rendered: int) -> str:
    """Return the length, such as "12.8 s", or "3.6 of 12.8 s" if it is not finished."""
    whole = f"{take.seconds(len(take.keys)):.1f} s"
    return whole if rendered >= len(take.keys) else f"{take.seconds(rendered):.1f} of {whole}"


def when(take: Manifest) -> str:
    """Return when it was rendered last, by this machine's clock."""
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(take.used))
    return f"{date} (dated ahead)" if take.is_ahead else date
