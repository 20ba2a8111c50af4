"""Step: a film of LongLive 1.3B's shape at 832x480, with a full window, every chunk timed; then the naive twin.

Random weights; the stages, the film and the twin are those of `benchmarks.rollout`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .notes import Notes, Setting

CHUNKS = {False: 26, True: 2}  # timed; one of them is the change of prompt
TWIN_CHUNKS = {False: 7, True: 5}
TFLOP = {"transformer": 141.5, "vae": 40.7}  # of one chunk, counted


def run(setting: Setting, notes: Notes, kind: str) -> None:
    import torch

    from benchmarks import rollout as bench
    from longlive_core.config import PRESETS

    name, device = "tiny" if setting.tiny else "longlive-1.3b", setting.device
    preset, stream = bench.MODELS[name], PRESETS["longlive-1.3b"]
    size = (preset.width, preset.height)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    notes.add(model=name, size=f"{size[0]}x{size[1]}", dtype=f"{'INT8 in ' if kind == 'int8' else ''}{dtype}")
    torch.manual_seed(0)
    with torch.inference_mode(), tempfile.TemporaryDirectory(dir=setting.work) as folder:
        model, decoder = bench.build(preset, device, dtype, kind == "int8")
        subject = (model, decoder, preset, size, stream)
        film = _film(subject, setting, notes, Path(folder))
        _headline(notes, film, setting)
        _twin(subject, setting, notes)


def _film(subject, setting: Setting, notes: Notes, folder: Path) -> dict:
    import torch

    from benchmarks import rollout as bench

    device, key = setting.device, "time to the first frame, milliseconds"
    first = {"first film of the process": bench.first_frame(*subject, device)}
    notes.update({key: first})
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    chunks = CHUNKS[setting.tiny]
    film = bench.film_run(*subject, chunks, device, folder, on_chunk=lambda so_far: notes.add(film=so_far))
    notes.update({"film": film, "peak memory GB": round(bench.peak_memory_mb(device) * 2**20 / 1e9, 3)})
    notes.update({key: first | {"later": bench.first_frame(*subject, device)}})
    return film


def _headline(notes: Notes, film: dict, setting: Setting) -> None:
    total, parts = film["milliseconds per chunk"], {}
    if not setting.tiny:
        for stage, work in TFLOP.items():
            parts[f"{stage}, TFLOP/s"] = round(work / film[f"milliseconds per chunk, {stage}"]["median"] * 1000, 1)
    notes.add(
        reached=parts,
        headline=f"{film['frames per second, end to end']} frames/s end to end, "
        f"{film['frames per second, transformer only']} transformer only; chunk {total['median']} ms, "
        f"p95 {total['p95']}, stall {film.get('stall at a change of prompt, milliseconds')} ms, "
        f"peak {notes.content['peak memory GB']} GB",
    )


def _twin(subject, setting: Setting, notes: Notes) -> None:
    """Time the naive twin. It keeps all keys and values, which a small card may not hold; then it is left out."""
    import torch

    from benchmarks import rollout as bench

    model, _, *rest = subject
    try:
        found = bench.twin_run(model, *rest, TWIN_CHUNKS[setting.tiny], setting.device)
    except torch.cuda.OutOfMemoryError as error:
        found = {"not run": str(error).splitlines()[0]}
    notes.update({"naive twin": found})
