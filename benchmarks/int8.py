"""INT8 against bf16 and float32: size, drift and speed, in one run; prints the tables of docs/lab/int8.md.

    python -m benchmarks.int8
    python -m benchmarks.int8 --model longlive.safetensors --text-encoder umt5.safetensors --vae vae.safetensors

Drift is measured in three ways: each linear layer on its real inputs; the model's velocity, pass by pass, with the
cache of the float32 film; and whole films with equal noise, each with its own cache. All films are decoded by the same
float32 VAE; PSNR is of frames before the video encoder, against the named film.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections import defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

from longlive_core.checkpoints import build_model
from longlive_core.config import ModelConfig
from longlive_core.engine.noise import AddressedNoise
from longlive_core.engine.rollout import rollout
from longlive_core.engine.shot import PromptSpan
from longlive_core.film.decoding import to_frames
from longlive_core.model import CausalWan, WanModel
from longlive_core.quant import Int8Linear, block_linear_bytes, is_block_linear, quantise_module, quantise_state_dict
from longlive_core.run.pipeline import Pipeline

REAL = ModelConfig(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30)
REAL_ROWS = 3 * 1560  # tokens of a chunk at 832x480
PROMPTS = ("A red ball bounces on a meadow.", "A blue ball bounces in the snow.")
REFERENCE = "float32"
VARIANTS = {  # name: (INT8, dtype of everything else)
    REFERENCE: (False, torch.float32),
    "bf16": (False, torch.bfloat16),
    "INT8 in float32": (True, torch.float32),
    "INT8 in bf16": (True, torch.bfloat16),
}
PAIRS = (("bf16", REFERENCE), ("INT8 in float32", REFERENCE), ("INT8 in bf16", REFERENCE), ("INT8 in bf16", "bf16"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket", help="'pocket' or an unquantised file")
    parser.add_argument("--text-encoder")
    parser.add_argument("--vae")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--chunks", type=int, default=8, help="length of each film; the prompt switches half-way")
    parser.add_argument("--seeds", type=int, default=2, help="films")
    parser.add_argument("--timed", type=int, default=8, help="chunks timed after the window is full; 0: none")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser.parse_args()


class Subject:
    """The pipeline in float32, its model in all variants, and the film that all of them render."""

    def __init__(self, args: argparse.Namespace):
        self.pipe = Pipeline.load(
            args.model, text_encoder=args.text_encoder, vae=args.vae, dtype="fp32", device=args.device
        )
        self.weights = self.pipe.model.module.state_dict()
        self.models = {name: self._model(*kind) for name, kind in VARIANTS.items()}
        contexts = self.pipe.encode(PROMPTS)
        self.chunks = args.chunks
        self.spans = [PromptSpan(i * (args.chunks // 2), contexts[text]) for i, text in enumerate(PROMPTS)]
        width, height = self.pipe.default_size
        self.latent_size = (height // 8, width // 8)

    def _model(self, int8: bool, dtype: torch.dtype) -> CausalWan:
        weights = quantise_state_dict(self.weights) if int8 else self.weights
        return CausalWan(build_model(weights, self.pipe.device, dtype), self.pipe.model.config)

    def film(self, model, seed: int, chunks: int | None = None, spans=None):
        """Yield chunks."""
        return rollout(
            model, spans or self.spans, chunks or self.chunks, self.latent_size, self.pipe.stream, AddressedNoise(seed)
        )


class Error:
    """Relative error over many tensors: root of the sum of squared differences over that of the reference's squares."""

    def __init__(self):
        self.difference, self.size = 0.0, 0.0

    def add(self, given: torch.Tensor, expected: torch.Tensor) -> None:
        self.difference += (given.double() - expected.double()).square().sum().item()
        self.size += expected.double().square().sum().item()

    @property
    def value(self) -> float:
        return math.sqrt(self.difference / self.size)


class Beside:
    """A model for the rollout that returns the results of `reference` and also runs other models on the same inputs.

    The others go first: what they write to the cache is overwritten by the reference before it is committed.
    """

    def __init__(self, reference: CausalWan, others: dict[str, CausalWan]):
        self.reference, self.others = reference, others
        self.config, self.attention = reference.config, reference.attention
        self.device, self.dtype = reference.device, reference.dtype
        self.errors: dict[tuple[str, float], Error] = defaultdict(Error)

    def prompt_keys(self, context):
        return {name: model.prompt_keys(context) for name, model in self._all().items()}

    def velocity(self, latents, timestep, prompt, attend):
        answers = {}
        for name, model in self._all().items():  # the reference last

            def joined(layer, q, k, v):
                return attend(layer, q.to(self.dtype), k.to(self.dtype), v.to(self.dtype)).to(q.dtype)

            answers[name] = model.velocity(latents, timestep, prompt[name], joined)
        for name in self.others:
            self.errors[name, round(float(timestep), 1)].add(answers[name], answers[REFERENCE])
        return answers[REFERENCE]

    def _all(self) -> dict[str, CausalWan]:
        return {**self.others, REFERENCE: self.reference}


def sizes(subject: Subject) -> dict:
    with torch.device("meta"):
        real = WanModel(REAL).to(torch.bfloat16)
    result = {}
    for name, bf16, int8 in (
        ("this model", {n: t.bfloat16() for n, t in subject.weights.items()}, quantise_state_dict(subject.weights)),
        ("LongLive 1.3B", real.state_dict(), quantise_module(real).state_dict()),
    ):
        before, after = block_linear_bytes(bf16), block_linear_bytes(int8)
        result[name] = {"bf16 MB": before / 1e6, "INT8 MB": after / 1e6, "ratio": before / after}
    return result


def layer_errors(subject: Subject) -> dict[str, float]:
    """Return errors by kind of layer: the INT8 layer on the same inputs, over one film."""
    module, errors, handles = subject.models[REFERENCE].module, defaultdict(Error), []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and is_block_linear(name):
            twin, kind = Int8Linear.from_linear(layer, name), name.split(".", 2)[2]
            handles.append(
                layer.register_forward_hook(
                    lambda layer, inputs, out, twin=twin, kind=kind: errors[kind].add(twin(inputs[0]), out)
                )
            )
    for _ in subject.film(subject.models[REFERENCE], seed=0):
        pass
    for handle in handles:
        handle.remove()
    return {kind: error.value for kind, error in errors.items()}


def velocity_errors(subject: Subject, seeds: int) -> dict[str, dict[float, float]]:
    """Return errors by variant and timestep (0 is the clean pass), with the cache of the float32 film."""
    others = {name: model for name, model in subject.models.items() if name != REFERENCE}
    beside = Beside(subject.models[REFERENCE], others)
    for seed in range(seeds):
        for _ in subject.film(beside, seed):
            pass
    table: dict[str, dict[float, float]] = defaultdict(dict)
    for (name, timestep), error in sorted(beside.errors.items(), key=lambda item: -item[0][1]):
        table[name][timestep] = error.value
    return table


def film_drift(subject: Subject, seeds: int) -> dict[str, dict[str, float]]:
    """Return, by pair of variants, PSNR over whole films (median and lowest) and the cosines of the latents."""
    results: dict[str, dict[str, list[float]]] = {f"{a} / {b}": defaultdict(list) for a, b in PAIRS}
    for seed in range(seeds):
        films = {name: _film(subject, model, seed) for name, model in subject.models.items()}
        for a, b in PAIRS:
            into = results[f"{a} / {b}"]
            (latents_a, frames_a), (latents_b, frames_b) = films[a], films[b]
            into["PSNR dB"].append(psnr(frames_a, frames_b))
            for chunk in sorted({0, subject.chunks // 2 - 1, subject.chunks - 1}):
                flat = latents_a[chunk].flatten().double(), latents_b[chunk].flatten().double()
                into[f"cosine, chunk {chunk + 1}"].append(torch.cosine_similarity(*flat, dim=0).item())
    return {
        pair: {key: statistics.median(values) for key, values in rows.items()} | {"lowest PSNR": min(rows["PSNR dB"])}
        for pair, rows in results.items()
    }


def _film(subject: Subject, model, seed: int) -> tuple[list[torch.Tensor], np.ndarray]:
    latents, frames = [], []
    subject.pipe.decoder.reset()
    for chunk in subject.film(model, seed):
        latents.append(chunk.latents)
        frames.append(to_frames(subject.pipe.decoder.decode(chunk.latents)))
    return latents, np.concatenate(frames)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR of uint8 frames, in dB."""
    error = np.square(a.astype(np.float64) - b).mean()
    return 10 * math.log10(255**2 / error) if error else math.inf


def rollout_speed(subject: Subject, timed: int) -> dict[str, float]:
    """Return median milliseconds of a chunk (transformer only) after the window is full; variants alternate."""
    warm = max(subject.pipe.stream.window // subject.pipe.stream.chunk, 1)
    runs = {name: subject.film(m, 0, warm + timed, subject.spans[:1]) for name, m in subject.models.items()}
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(warm + timed):
        for name, run in runs.items():
            began = time.perf_counter()
            next(run)
            _wait(subject.pipe.device)
            if number >= warm:
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def layer_speed(device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """Return median milliseconds of single layers at the real model's shapes, for one chunk at 832x480."""
    result = {}
    for inner, outer in ((REAL.dim, REAL.dim), (REAL.dim, REAL.ffn_dim), (REAL.ffn_dim, REAL.dim)):
        linear = nn.Linear(inner, outer, device=device)
        x = torch.randn(REAL_ROWS, inner, device=device)
        layers = {
            "float32": (linear, x),
            "bf16": (nn.Linear(inner, outer, device=device, dtype=torch.bfloat16), x.bfloat16()),
            "INT8 in bf16": (Int8Linear.from_linear(linear), x.bfloat16()),
        }
        times: dict[str, list[float]] = defaultdict(list)
        for number in range(repeats + 1):
            for name, (layer, given) in layers.items():
                began = time.perf_counter()
                layer(given)
                _wait(device)
                if number:
                    times[name].append((time.perf_counter() - began) * 1000)
        result[f"{inner} -> {outer}"] = {name: statistics.median(values) for name, values in times.items()}
    return result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def table(title: str, rows: dict[str, dict], digits: str) -> str:
    """Return a Markdown table; all rows have the same columns."""
    columns = list(next(iter(rows.values())))
    lines = [f"\n{title}\n", f"| | {' | '.join(map(str, columns))} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(format(row[c], digits) for c in columns)} |" for name, row in rows.items()]
    return "\n".join(lines)


def conditions(args: argparse.Namespace) -> dict:
    cuda = args.device.startswith("cuda")
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "model": Path(args.model).name,
        "films": args.seeds,
        "chunks of a film": args.chunks,
    }


@torch.inference_mode()
def main() -> None:
    args = arguments()
    subject = Subject(args)
    report = {"conditions": conditions(args), "bytes": sizes(subject)}
    print(json.dumps(report["conditions"], indent=2))
    print(table("Linear layers of the blocks, with biases and scales", report["bytes"], ".2f"))
    report["layers"] = layer_errors(subject)
    print(table("Relative error of single layers on the same inputs", {"INT8": report["layers"]}, ".4f"))
    report["velocity"] = velocity_errors(subject, args.seeds)
    print(table("Relative error of the velocity by timestep, same context", report["velocity"], ".4f"))
    report["films"] = film_drift(subject, args.seeds)
    print(table("Films of equal noise (median of the films)", report["films"], ".4g"))
    if args.timed:
        report["chunk ms"] = rollout_speed(subject, args.timed)
        print(table("Milliseconds per chunk, transformer only (median)", {"ms": report["chunk ms"]}, ".1f"))
        report["layer ms"] = layer_speed(subject.pipe.device, min(args.timed, 5))
        print(table("Milliseconds of one layer, 4680 tokens (median)", report["layer ms"], ".1f"))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
