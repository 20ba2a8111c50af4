"""One run of the sampler: the engine's chunks into a file, with progress, previews, cancellation and a report."""

from __future__ import annotations

import json
import os
import time
import uuid
from typing import Any

import comfy.utils
import folder_paths
import numpy as np
from PIL import Image

from ..longlive_core.config import ModelConfig, StreamConfig
from ..longlive_core.film import film_frames
from ..longlive_core.memory import estimate
from ..longlive_core.metadata import captions_of, film_metadata
from ..longlive_core.noise import AddressedNoise
from ..longlive_core.rollout import rollout
from ..longlive_core.timeline import Plan
from ..longlive_core.video import FilmWriter, check_writable
from . import compat
from .timeline import Timeline

PREVIEW_SIZE = 512  # pixels, the longer side


class Filming:
    """Renders one film. `size` is (width, height) in pixels; everything is checked before anything is computed."""

    def __init__(self, model, vae, timeline: Timeline, stream: StreamConfig, seed: int, size: tuple[int, int]):
        self.model, self.vae, self.timeline = model, vae, timeline
        self.stream, self.seed, self.size = stream, seed, size
        self.plan = timeline.plan(stream.chunk)
        self.causal, self.decoder = compat.causal_model(model), compat.streaming_decoder(vae)
        _check_text_width(timeline, self.causal.config)

    def run(self) -> tuple[str, str]:
        """-> path of the film in ComfyUI's temporary folder, report as JSON. No file is left where it raises."""
        latent_size = (self.size[1] // 8, self.size[0] // 8)
        progress = Progress(self.plan.chunks, len(self.stream.denoising_steps) + 1)
        chunks = rollout(self.causal, self.timeline.spans(self.plan), self.plan.chunks, latent_size, self.stream,
                         AddressedNoise(self.seed), progress.step)  # fmt: skip
        path = _film_path()
        # Weights do not count: ComfyUI may leave some of them in main memory.
        need = estimate(self.causal, self.decoder, self.plan, self.stream, self.size, weights=0)
        need.check(compat.memory_for_run(self.model), str(self.causal.device))
        compat.load_for_run(self.model, self.vae, need.frames, latent_size, need.cache + need.vae)
        began = time.perf_counter()
        try:
            self._write(path, chunks, progress)
        finally:
            chunks.close()
            self.decoder.reset()
            compat.release_memory()
        return path, self._report(time.perf_counter() - began)

    def _write(self, path: str, chunks, progress: Progress) -> None:
        with FilmWriter(path, *self.size, fps=self.plan.fps, metadata=self._metadata(),
                        captions=captions_of(self.plan)) as film:  # fmt: skip
            for chunk, frames in film_frames(chunks, self.decoder):
                film.write(frames)
                progress.chunk(chunk.index, frames[-1])

    def _metadata(self) -> dict[str, str]:
        config = self.causal.config
        name = f"Wan 2.1, width {config.dim}, {config.num_layers} layers"
        return film_metadata(self.timeline.text, self.plan, self.stream, self.seed, self.size, name)

    def _report(self, seconds: float) -> str:
        return json.dumps(report(self.plan, self.stream, self.seed, self.size, seconds), ensure_ascii=False)


class Progress:
    """ComfyUI's progress bar over all passes of a film, with one picture a chunk. Both calls raise on Cancel."""

    def __init__(self, chunks: int, passes: int):
        self.passes, self.total = passes, chunks * passes
        self.bar = comfy.utils.ProgressBar(self.total)

    def step(self, chunk: int, step: int) -> None:
        """Before a pass. A recache counts as its chunk's first."""
        compat.check_cancelled()
        self.bar.update_absolute(chunk * self.passes + step, self.total)

    def chunk(self, chunk: int, picture: np.ndarray) -> None:
        """After a chunk is written; picture: uint8 [H, W, 3]."""
        preview = ("JPEG", Image.fromarray(picture), PREVIEW_SIZE)
        self.bar.update_absolute((chunk + 1) * self.passes, self.total, preview)


def report(plan: Plan, stream: StreamConfig, seed: int, size: tuple[int, int], seconds: float) -> dict[str, Any]:
    """What the node tells about a run, for people and for programs."""
    return {
        "frames": plan.frames,
        "seconds": round(plan.seconds, 3),
        "fps": plan.fps,
        "chunks": plan.chunks,
        "width": size[0],
        "height": size[1],
        "seed": seed,
        "positions": stream.positions,
        "render_seconds": round(seconds, 3),
        "frames_per_second": round(plan.frames / seconds, 2),
        "segments": [
            {"start_seconds": round(segment.start_seconds, 3), "start_frame": segment.start_frame,
             "start_chunk": segment.start_chunk, "transition": segment.transition, "text": segment.text}
            for segment in plan.segments
        ],
    }  # fmt: skip


def _film_path() -> str:
    """A new file in ComfyUI's temporary folder; ValueError where none can be written there."""
    folder = folder_paths.get_temp_directory()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ValueError(f"ComfyUI's temporary folder {folder} cannot be made ({error.strerror}); choose another with "
                         "--temp-directory") from error  # fmt: skip
    path = os.path.join(folder, f"longlive_{uuid.uuid4().hex[:12]}.mp4")
    check_writable(path)
    return path


def _check_text_width(timeline: Timeline, config: ModelConfig) -> None:
    width = next(iter(timeline.contexts.values())).shape[-1]
    if width != config.text_dim:
        raise ValueError(f"the timeline's CLIP makes embeddings {width} wide, the model takes {config.text_dim}: "
                         "connect the CLIP of Load LongLive, or CLIPLoader of type wan")  # fmt: skip
