"""Where the time of a chunk goes: transformer, VAE, encoder; and the naive twin beside it, in one run.

    python -m benchmarks.rollout --preset pocket
    python -m benchmarks.rollout --preset longlive-1.3b --chunks 30 --json docs/results/rollout.json

Weights are random normal numbers at the preset's shapes (never zeros, which run faster than real weights). The first
chunks fill the window and are not counted. The film is a real MP4 and its frames are counted by decoding it again.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import av
import torch

from longlive_core.config import PRESETS, ModelConfig, StreamConfig
from longlive_core.film import to_frames
from longlive_core.model import CausalWan, WanModel
from longlive_core.noise import AddressedNoise
from longlive_core.rollout import PromptSpan, rollout
from longlive_core.vae import StreamingDecoder, WanVAE, channels_last
from longlive_core.video import FilmWriter
from tests.naive import naive_rollout

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
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=MODELS, default="pocket")
    parser.add_argument("--chunks", type=int, default=12, help="chunks that are timed")
    parser.add_argument("--naive-chunks", type=int, default=8, help="length of the film both engines make; 0: skip")
    parser.add_argument("--width", type=int, help="pixels; the preset's own size by default")
    parser.add_argument("--height", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


def random_weights(module: torch.nn.Module, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """Variance-preserving random weights, so that activations are neither zero nor infinite."""
    module.to(dtype).to_empty(device=device).requires_grad_(False)  # never a copy in float32
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 and "gamma" not in name:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    return module


def build(preset: Preset, device: str, dtype: torch.dtype) -> tuple[CausalWan, StreamingDecoder]:
    with torch.device("meta"):
        transformer, vae = WanModel(preset.model), WanVAE(preset.vae_dim)
    transformer = random_weights(transformer, device, dtype)
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


def film_run(model, decoder, preset, size, stream, chunks, device, folder) -> dict:
    """Roll out, decode and encode a film; median milliseconds of each part once the window is full."""
    warm = stream.window // stream.chunk
    context = torch.randn(1, preset.text_tokens, preset.model.text_dim)
    latent_size = (size[1] // 8, size[0] // 8)
    stages: dict[str, list[float]] = {"transformer": [], "vae": [], "copy": [], "encoder": []}
    path = folder / "film.mp4"
    with FilmWriter(path, *size) as writer:
        clock = Clock(device)
        chunks_made = rollout(model, [PromptSpan(0, context)], warm + chunks, latent_size, stream, AddressedNoise(0))
        for number in range(warm + chunks):
            latents = next(chunks_made).latents
            laps = [clock.lap()]
            pixels = decoder.decode(latents)
            laps.append(clock.lap())
            frames = to_frames(pixels)
            laps.append(clock.lap())
            writer.write(frames)
            laps.append(clock.lap())
            if number >= warm:
                for stage, lap in zip(stages.values(), laps, strict=True):
                    stage.append(lap)
    return summary(stages, path, stream.chunk, warm)


def summary(stages: dict[str, list[float]], path: Path, chunk: int, warm: int) -> dict:
    totals = [sum(laps) for laps in zip(*stages.values(), strict=True)]
    with av.open(str(path)) as film:
        decoded = sum(1 for _ in film.decode(video=0))
    counted = decoded - (4 * chunk * warm - 3)
    return {
        "milliseconds per chunk (median)": {name: round(statistics.median(laps), 2) for name, laps in stages.items()},
        "milliseconds per chunk (p95)": round(sorted(totals)[int(0.95 * (len(totals) - 1))], 2),
        "frames counted in the MP4": counted,
        "frames per second, transformer only": round(counted / sum(stages["transformer"]) * 1000, 2),
        "frames per second, end to end": round(counted / sum(totals) * 1000, 2),
    }


def twin_run(model, preset, size, stream, chunks, device) -> dict:
    """Both engines make the same latents; the ratio is what ring and in-place writes are worth."""
    spans = [PromptSpan(0, torch.randn(1, preset.text_tokens, preset.model.text_dim))]
    latent_size = (size[1] // 8, size[0] // 8)

    def ours():
        made = rollout(model, spans, chunks, latent_size, stream, AddressedNoise(0))
        return torch.cat([chunk.latents for chunk in made], 2)

    def twin():
        return naive_rollout(model, spans, chunks, latent_size, stream, AddressedNoise(0))

    clock, times, outputs = Clock(device), [], []
    for engine in (ours, twin):
        engine()  # warm up
        clock.lap()
        outputs.append(engine())
        times.append(clock.lap())
    difference = (outputs[0] - outputs[1]).abs().max() / outputs[1].abs().max()
    return {
        "chunks": chunks,
        "milliseconds": {"engine": round(times[0], 1), "naive twin": round(times[1], 1)},
        "naive twin / engine": round(times[1] / times[0], 3),
        "largest difference of latents, relative": float(f"{difference.item():.2e}"),
    }


def conditions(args: argparse.Namespace, size: tuple[int, int], stream: StreamConfig) -> dict:
    cuda = args.device.startswith("cuda")
    return {
        "date": date.today().isoformat(),
        "command": "python -m benchmarks.rollout " + " ".join(sys.argv[1:]),
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "preset": args.preset,
        "dtype": args.dtype,
        "size": f"{size[0]}x{size[1]}",
        "stream": asdict(stream),
        "timed chunks": args.chunks,
    }


def main() -> None:
    args = arguments()
    preset, stream = MODELS[args.preset], PRESETS[args.preset]
    size = (args.width or preset.width, args.height or preset.height)
    torch.manual_seed(0)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        model, decoder = build(preset, args.device, DTYPES[args.dtype])
        report = {"conditions": conditions(args, size, stream)}
        report["film"] = film_run(model, decoder, preset, size, stream, args.chunks, args.device, Path(folder))
        report["peak memory MB (device)" if args.device.startswith("cuda") else "peak memory MB (process)"] = round(
            peak_memory_mb(args.device), 1
        )
        if args.naive_chunks:
            report["naive twin"] = twin_run(model, preset, size, stream, args.naive_chunks, args.device)
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
