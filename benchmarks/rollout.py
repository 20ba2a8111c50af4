"""Measure the time of a chunk by stage (transformer, VAE, encoder), and that of the naive twin, in one run.

    python -m benchmarks.rollout --preset pocket
    python -m benchmarks.rollout --preset longlive-1.3b --chunks 30 --json docs/results/rollout.json

Weights are random normal numbers at the preset's shapes (never zeros, which run faster than real weights). The first
chunks fill the window and are not counted; half-way through the counted ones the prompt switches, and its cost
is reported separately. The film is a real MP4 and its frames are counted by decoding it again.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

from benchmarks.cpu_kernels import compare
from longlive_core.config import PRESETS, ModelConfig, StreamConfig
from longlive_core.device.precision import resolve_dtype
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.film.decoding import to_frames
from longlive_core.model import CausalWan, WanModel
from longlive_core.quant import quantise_module
from longlive_core.vae import StreamingDecoder, WanVAE, channels_last
from tests.naive import naive_chunks

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Preset:
    model: ModelConfig
    vae_dim: int
    text_tokens: int
    width: int
    height: int


MODELS = {
    "longlive-1.3b": Preset(ModelConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30), 96, 512, 832, 480),
    "pocket": Preset(ModelConfig(dim=256, ffn_dim=768, num_heads=2, num_layers=6), 16, 32, 128, 80),
    # To try the benchmark itself: fast on any CPU.
    "tiny": Preset(ModelConfig(dim=256, ffn_dim=256, num_heads=2, num_layers=2), 8, 8, 64, 32),
}
STAGES = ("transformer", "vae", "copy", "encoder")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=MODELS, default="pocket")
    parser.add_argument("--chunks", type=int, default=12, help="chunks that are timed")
    parser.add_argument("--naive-chunks", type=int, default=8, help="film length for both engines; 0: skip")
    parser.add_argument("--width", type=int, help="pixels; the preset's own size by default")
    parser.add_argument("--height", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto", help="auto: the best one of the device")
    parser.add_argument("--int8", action="store_true", help="the blocks' linear layers in INT8")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def random_weights(module: torch.nn.Module, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """Return variance-preserving random weights, so that activations are neither zero nor infinite."""
    module.to(dtype).to_empty(device=device).requires_grad_(False)  # never a copy in float32
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 and "gamma" not in name:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    return module


def build(preset: Preset, device: str, dtype: torch.dtype, int8: bool = False) -> tuple[CausalWan, StreamingDecoder]:
    with torch.device("meta"):
        # In training mode each of the VAE's dropouts copies its input, though its rate is 0.
        transformer, vae = WanModel(preset.model).eval(), WanVAE(preset.vae_dim).eval()
    transformer = random_weights(transformer, device, dtype)
    if int8:
        quantise_module(transformer)
    vae = channels_last(random_weights(vae, device, dtype))
    return CausalWan(transformer, preset.model), StreamingDecoder(vae)


class Clock:
    """Wall time of consecutive parts, in milliseconds; waits for the device."""

    def __init__(self, device: str):
        self.device, self.last = device, time.perf_counter()

    def lap(self) -> float:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        return elapsed * 1000


def peak_memory_mb(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def contexts(preset: Preset, count: int = 2) -> list[torch.Tensor]:
    """Return random embeddings of `count` prompts, [1, text tokens, text dim]."""
    return [torch.randn(1, preset.text_tokens, preset.model.text_dim) for _ in range(count)]


class FilmTimes:
    """Milliseconds of each stage of each chunk; the first `warm` chunks fill the window and are not counted.

    on_chunk: called with the summary so far after every counted chunk.
    """

    def __init__(self, warm: int, change: int | None, on_chunk: Callable[[dict], None] | None = None):
        self.warm, self.change, self.on_chunk = warm, change, on_chunk
        self.rows: list[list[float]] = []

    def add(self, laps: list[float]) -> None:
        self.rows.append(laps)
        if self.on_chunk and self.steady:
            self.on_chunk(self.summary())

    @property
    def steady(self) -> list[list[float]]:
        """Rows of the counted chunks: the window is full and the prompt does not switch."""
        return [row for index, row in enumerate(self.rows) if index >= self.warm and index != self.change]

    def summary(self) -> dict:
        steady = self.steady
        by_stage = dict(zip(STAGES, zip(*steady, strict=True), strict=True))
        report = {
            "chunks timed": len(steady),
            "milliseconds per chunk": spread([sum(row) for row in steady]),
            **{f"milliseconds per chunk, {stage}": spread(laps) for stage, laps in by_stage.items()},
        }
        if self.change is not None and len(self.rows) > self.change:
            usual = statistics.median(by_stage["transformer"])
            report["stall at a change of prompt, milliseconds"] = round(self.rows[self.change][0] - usual, 2)
        return report


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 2),
        "p95": round(ordered[math.ceil(0.95 * len(ordered)) - 1], 2),
        "maximum": round(ordered[-1], 2),
    }


def film_run(model, decoder, preset, size, stream, chunks, device, folder, on_chunk=None) -> dict:
    """Roll out, decode and encode a film; return milliseconds per stage after the window is full, and frames/s."""
    from longlive_core.film.video import FilmWriter

    warm = stream.window // stream.chunk
    change = warm + chunks // 2 if chunks > 1 else None
    spans = [PromptSpan(start, c) for start, c in zip((0, change), contexts(preset), strict=True) if start is not None]
    times, path = FilmTimes(warm, change, on_chunk), folder / "film.mp4"
    with FilmWriter(path, *size) as writer:
        made = rollout(model, spans, warm + chunks, (size[1] // 8, size[0] // 8), stream, AddressedNoise(0))
        decoder.reset()
        for _ in range(warm + chunks):
            times.add(_laps(made, decoder, writer, device))
    return times.summary() | speeds(times, path, stream.chunk)


def _laps(made, decoder, writer, device) -> list[float]:
    """Render one chunk, including its video. Return milliseconds, in the order of STAGES."""
    clock = Clock(device)
    latents = next(made).latents
    laps = [clock.lap()]
    pixels = decoder.decode(latents)
    laps.append(clock.lap())
    frames = to_frames(pixels)
    laps.append(clock.lap())
    writer.write(frames)
    return [*laps, clock.lap()]


def speeds(times: FilmTimes, path: Path, chunk: int) -> dict:
    """Return frames per second of the chunks after the window is full, including the prompt switch."""
    counted, rows = count_frames(path) - (4 * chunk * times.warm - 3), times.rows[times.warm :]
    return {
        "frames counted in the MP4": counted,
        "frames per second, transformer only": round(counted / sum(row[0] for row in rows) * 1000, 2),
        "frames per second, end to end": round(counted / sum(map(sum, rows)) * 1000, 2),
    }


def count_frames(path: Path) -> int:
    """Count frames by decoding all of them."""
    import av

    with av.open(str(path)) as film:
        return sum(1 for _ in film.decode(video=0))


def first_frame(model, decoder, preset, size, stream, device) -> float:
    """Return milliseconds from a prompt's embedding to the pixels of the first chunk in main memory."""
    (context,) = contexts(preset, 1)
    clock = Clock(device)
    clock.lap()
    made = rollout(model, [PromptSpan(0, context)], 1, (size[1] // 8, size[0] // 8), stream, AddressedNoise(0))
    decoder.reset()
    to_frames(decoder.decode(next(made).latents))
    return round(clock.lap(), 2)


def twin_run(model, preset, size, stream, chunks, device) -> dict:
    """Time both engines, which render the same latents; the ratio is the gain of ring and in-place writes.

    They alternate chunk by chunk; the chunks after the window is full are timed, or the last one of a film within it.
    """
    latent_size, warm = (size[1] // 8, size[0] // 8), min(stream.window // stream.chunk, chunks - 1)
    film = ([PromptSpan(0, contexts(preset, 1)[0])], chunks, latent_size, stream, AddressedNoise(0))
    engines = {"engine": (c.latents for c in rollout(model, *film)), "naive twin": naive_chunks(model, *film)}
    times, worst, clock = {name: [] for name in engines}, 0.0, Clock(device)
    for number in range(chunks):
        made = {}
        for name, engine in engines.items():
            clock.lap()
            made[name] = next(engine)
            times[name] += [clock.lap()] if number >= warm else []
        ours, twin = made.values()
        worst = max(worst, ((ours - twin).abs().max() / twin.abs().max()).item())
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "chunks": chunks,
        "of them timed": chunks - warm,
        "milliseconds per chunk, transformer (median)": {name: round(value, 2) for name, value in medians.items()},
        "naive twin / engine": round(medians["naive twin"] / medians["engine"], 3),
        "largest difference of latents, relative": float(f"{worst:.2e}"),
    }


def conditions(args: argparse.Namespace, dtype: torch.dtype, size: tuple[int, int], stream: StreamConfig) -> dict:
    cuda = args.device.startswith("cuda")
    return {
        "date": date.today().isoformat(),
        "command": "python -m benchmarks.rollout " + " ".join(sys.argv[1:]),
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "preset": args.preset,
        "dtype": f"{'INT8 in ' if args.int8 else ''}{str(dtype).removeprefix('torch.')}",
        "size": f"{size[0]}x{size[1]}",
        "stream": asdict(stream),
        "timed chunks": args.chunks,
    }


def main() -> None:
    args = arguments()
    preset, stream = MODELS[args.preset], PRESETS.get(args.preset, PRESETS["longlive-1.3b"])
    size = (args.width or preset.width, args.height or preset.height)
    dtype = resolve_dtype(args.dtype, torch.device(args.device))
    torch.manual_seed(0)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        model, decoder = build(preset, args.device, dtype, args.int8)
        report = {"conditions": conditions(args, dtype, size, stream)}
        cold = first_frame(model, decoder, preset, size, stream, args.device)
        report["film"] = film_run(model, decoder, preset, size, stream, args.chunks, args.device, Path(folder))
        report["peak memory MB (device)" if args.device.startswith("cuda") else "peak memory MB (process)"] = round(
            peak_memory_mb(args.device), 1
        )
        warm = first_frame(model, decoder, preset, size, stream, args.device)
        report["time to the first frame, milliseconds"] = {"first film of the process": cold, "later": warm}
        if args.naive_chunks:
            report["naive twin"] = twin_run(model, preset, size, stream, args.naive_chunks, args.device)
        if args.device == "cpu":
            report["ways of computing the same on this CPU"] = compare(preset.model, decoder, size, stream)
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
