"""Takes for tests: manifests in a store, with files in the place of latents, nothing rendered."""

from __future__ import annotations

from pathlib import Path

from longlive_core.config import StreamConfig
from longlive_core.takes import Manifest, Origin, TakeStore
from longlive_core.takes.manifest import take_id
from longlive_core.timeline import parse, plan_text

SIZE = [128, 80]
ORIGIN = {
    "model": "model",
    "text_encoder": "text",
    "dtype": "float32",
    "size": SIZE,
    "seed": 7,
    "stream": Origin("", "", "", StreamConfig(), (0, 0), 0).as_json()["stream"],
}


def manifest(number: int, timeline: str, seconds: float, used: float = 0.0, **changes) -> Manifest:
    """A take of that timeline; equal numbers have equal chunks, and with a timeline the same id."""
    plan = parse(timeline).plan(seconds)
    cuts = [segment.start_chunk for segment in plan.segments[1:] if segment.transition == "cut"]
    ends = [*cuts, plan.chunks]
    shots, start = [], 0
    for end in ends:
        shots.append([f"{number:06x}{chunk:026x}" for chunk in range(start, end)])
        start = end
    segments = [{"chunk": s.start_chunk, "transition": s.transition, "text": s.text} for s in plan.segments]
    unit = f"{number:08x}"
    facts = {
        "id": take_id(shots, unit),
        "timeline": timeline,
        "exact": plan_text(plan),
        "origin": ORIGIN,
        "segments": segments,
        "shots": shots,
        "encoding": {"width": 128, "height": 80, "fps": 16.0, "crf": 18},
        "unit": unit,
        "vae_width": 8,
        "created": used,
        "used": used,
    }
    return Manifest(**{**facts, **changes})


def place(store: TakeStore, take: Manifest, rendered: int | None = None) -> None:
    """Put a take into a store, its first chunks too (all by default)."""
    for key in take.keys[:rendered]:
        path = Path(store.folder) / "chunks" / key[:2] / f"{key}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    store.write_manifest(take)
