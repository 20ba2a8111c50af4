"""Step: films on simulated cards that are smaller than this one.

For each size of card the process can allocate only what such a card leaves to one program, and sees no more than that.
The report has what ran, what moved to main memory, time and memory, the messages of refusals, and whether all films are
equal.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .notes import Notes, Setting

CARDS = (24, 16, 12, 8)  # GiB
TAKEN = 0.8  # GiB of a card that CUDA and a desktop hold before the first allocation
CHUNKS = 6  # the window of 4 fills, and 2 more; the prompt changes before the last


def run(setting: Setting, notes: Notes) -> None:
    found: dict[str, dict] = {}
    for card in CARDS:
        with card_of(card, setting.device):
            found[f"{card} GB"] = attempt(setting)
        films = {entry["film"] for entry in found.values() if "film" in entry}
        notes.add(
            cards=found,
            headline="; ".join(f"{name}: {words(entry)}" for name, entry in found.items()),
            all_films_are_equal=len(films) <= 1,
        )
    failed = [name for name, entry in found.items() if "error" in entry]
    if failed:
        raise RuntimeError(f"neither a film nor a refusal: {', '.join(failed)}")


def words(entry: dict) -> str:
    if "error" in entry:
        return "FAILED"
    if "refused" in entry:
        return "refused"
    return f"{entry['placement']}, {entry['peak GB']} GB, {entry['seconds per chunk']} s a chunk"


def attempt(setting: Setting) -> dict[str, Any]:
    from longlive_core.run.memory import NotEnoughMemory

    try:
        return film(setting)
    except NotEnoughMemory as refusal:
        return {"refused": str(refusal)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        gc.collect()


@contextlib.contextmanager
def card_of(gibibytes: float, device: str) -> Iterator[None]:
    """Simulate a card of that size within the block. Does nothing on a CPU."""
    if device != "cuda":
        yield
        return
    import torch

    whole = torch.cuda.mem_get_info()[1]
    size = int((gibibytes - TAKEN) * 2**30)
    real = torch.cuda.mem_get_info

    def simulated(device=None) -> tuple[int, int]:
        return max(size - torch.cuda.memory_reserved(), 0), size

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_per_process_memory_fraction(min(size / whole, 1.0))
    torch.cuda.mem_get_info = simulated
    try:
        yield
    finally:
        torch.cuda.mem_get_info = real
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def film(setting: Setting) -> dict[str, Any]:
    """Render a film as the command line does, with random weights; return what it took.

    This is the only call into the engine; `render_film` chooses the placement.
    """
    import torch

    from benchmarks import rollout as bench
    from longlive_core.run.film_run import RunObserver
    from longlive_core.run.render import film_run, render_film
    from longlive_core.timeline import parse

    pipeline = random_pipeline("tiny" if setting.tiny else "longlive-1.3b", setting.device)
    plan = parse(f"0c A red ball\n{CHUNKS - 1}c A blue ball").plan(None, chunks=CHUNKS)
    with tempfile.TemporaryDirectory(dir=setting.work) as folder:
        path = Path(folder) / "film.mp4"
        seconds = [time.perf_counter()]
        observer = RunObserver()
        observer.chunk = lambda chunk, frames: seconds.append(time.perf_counter())
        run = film_run(pipeline, plan, path, stream=pipeline.stream, size=pipeline.default_size, observer=observer)
        need = run.estimate().need
        frames = render_film(run).frames
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    laps = [round(after - before, 3) for before, after in zip(seconds, seconds[1:])]  # noqa: B905 - neighbours
    peak = bench.peak_memory_mb(setting.device) * 2**20
    reserved = torch.cuda.max_memory_reserved() if setting.device == "cuda" else peak
    return {
        "placement": need.placement.name,
        "estimate GB": round(need.total / 1e9, 2),
        "moving GB": round(need.moving / 1e9, 2),
        "peak GB": round(peak / 1e9, 2),
        "peak / estimate": round(peak / need.total, 3),
        "reserved GB": round(reserved / 1e9, 2),
        "frames": frames,
        "film": content,
        "seconds of each chunk": laps,
        "seconds per chunk": laps[-2],
    }


def random_pipeline(name: str, device: str):
    """Return a pipeline whose weights and prompts' embeddings are random numbers."""
    import torch

    from benchmarks import rollout as bench
    from longlive_core.config import PRESETS
    from longlive_core.run.pipeline import Pipeline

    preset = bench.MODELS[name]
    torch.manual_seed(0)
    model, decoder = bench.build(preset, device, torch.float32 if device == "cpu" else torch.bfloat16)

    class Random(Pipeline):
        def encode(self, texts):
            return {text: bench.contexts(preset, 1)[0] for text in dict.fromkeys(texts)}

    text = torch.nn.Module()
    text.model = torch.nn.Module()  # a text encoder of no bytes
    return Random(model, decoder, text, PRESETS["longlive-1.3b"], (preset.width, preset.height), torch.device(device))
