"""Why chunks are rendered again: the first difference from the stored take that shares most chunks."""

from __future__ import annotations

from collections.abc import Sequence

from .manifest import Manifest
from .store import TakeStore

_NAMES = {
    "model": "the model",
    "text_encoder": "the text encoder",
    "dtype": "the dtype",
    "size": "the size",
    "seed": "the seed",
}


def closest_difference(store: TakeStore, manifest: Manifest, names: Sequence[dict] = ()) -> str | None:
    """Return the difference, such as "prompt 4 changed"; None if no stored take resembles this one.

    names: the take's origin under all its names, old ones too, as in manifests.
    """
    others = [take for take in store.takes() if isinstance(take, Manifest) and take.id != manifest.id]
    if not others:
        return None
    mine = set(manifest.keys)
    # Among those that share most, the one used last: what the user has just changed.
    return difference(max(others, key=lambda take: (len(mine & set(take.keys)), take.recency)), manifest, names)


def difference(old: Manifest, new: Manifest, names: Sequence[dict] = ()) -> str | None:
    """Return the first difference between two takes in words; None if there is none. See `closest_difference`."""
    # The same model may have several names.
    settings = min((_changed_settings(old.origin, name) for name in (new.origin, *names)), key=len)
    if settings:
        return f"{' and '.join(settings)} changed"
    for number, (before, after) in enumerate(zip(old.segments, new.segments), start=1):  # noqa: B905 - as far as both go
        if before["text"] != after["text"]:
            return f"prompt {number} changed"
        if before["chunk"] != after["chunk"]:
            return f"the time of prompt {number} changed"
        if before["transition"] != after["transition"]:
            return f"the transition of prompt {number} changed"
    if len(old.segments) != len(new.segments):
        number = min(len(old.segments), len(new.segments)) + 1
        return f"prompt {number} was {'added' if len(new.segments) > len(old.segments) else 'removed'}"
    if len(old.keys) != len(new.keys):
        return f"the film became {'longer' if len(new.keys) > len(old.keys) else 'shorter'}"
    return "the film's encoding changed" if old.unit != new.unit else None


def _changed_settings(old: dict, new: dict) -> list[str]:
    changed = [name for field, name in _NAMES.items() if old.get(field) != new.get(field)]
    stream, before = new.get("stream", {}), old.get("stream", {})
    return changed + [f"the setting {field}" for field in stream if stream[field] != before.get(field)]
