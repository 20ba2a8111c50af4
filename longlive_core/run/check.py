"""`check`: what the downloaded files are, what is wrong with them, and two chunks at a small size.

One line for each part. After a fault the other files are still checked, but no chunk is rendered. The files are read by
the loaders that rendering uses; nothing here knows a format.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import CheckpointError, build_model, load_lora, load_state_dict, load_vae, merge_lora
from ..checkpoints.lora.parts import LORA_KINDS, LoraLayer, LoraPart
from ..checkpoints.models import select_from_file
from ..checkpoints.tensor_files import files_of
from ..checkpoints.text_encoder import CONTEXT_WIDTH, TextEncoder
from ..checkpoints.weight_checks import TEXT_ENCODER_LIMITS, lora_problems, merge_problems, weight_problems
from ..config import ModelConfig, StreamConfig
from ..device.precision import resolve_dtype
from ..engine.noise import AddressedNoise
from ..engine.nonfinite import is_finite
from ..engine.rollout import rollout
from ..engine.shot import PromptSpan
from ..film.decoding import film_frames
from ..model import CausalWan
from ..timeline import parse
from ..vae import StreamingDecoder, WanVAE
from ..words.quantities import gigabytes
from .memory import estimate, free_memory, weight_bytes
from .pipeline import (
    POCKET,
    WANTED,
    Pipeline,
    check_device,
    default_size,
    is_pocket,
    load_text_encoder,
    model_file,
    resolve_device,
    settings_for,
    vae_file,
)

Say = Callable[[str], None]
SIZE = (128, 80)  # width, height: small enough for the 1.3B model on a CPU
PROMPTS = ("A red ball bounces on a meadow.", "A blue ball bounces on a meadow.")
FILM = "0s A red ball\n10s A blue ball", 20.0  # the film whose memory is estimated: text, seconds
# Width, feed-forward, layers of published Wan 2.1 text-to-video models.
SHAPES = {
    (1536, 8960, 30): "Wan 2.1 text-to-video 1.3B, the shape of LongLive and Self-Forcing",
    (256, 768, 6): "a Wan 2.1 text-to-video model in the built-in one's shape",
}


def check(
    model: str | os.PathLike = POCKET,
    *,
    lora=None,
    text_encoder=None,
    vae=None,
    dtype="auto",
    device="auto",
    preset=None,
    lora_strength=1.0,
    lora_alpha=None,
    prefer_ema=None,
    say: Say = print,
) -> bool:
    """Check every file, report what it is, and render two chunks. Return whether all is in order.

    Arguments as in `Pipeline.load`, except that a missing text encoder or VAE is not a fault: the built-in one is used
    for the two chunks, and its line says so.
    """
    report = _Report(say)
    placed = report.attempt("device", lambda: _place(device, dtype))
    stream = report.attempt("settings", lambda: settings_for(model, preset))
    weights = report.attempt("model", lambda: load_state_dict(model_file(model), prefer_ema=prefer_ema))
    if weights is not None:
        report.attempt("model", lambda: _check_model(report, model_file(model), weights, prefer_ema))
    if lora is not None:
        weights = report.attempt("LoRA", lambda: _merged(report, weights, lora, lora_alpha, lora_strength))
    own = is_pocket(model)
    text = report.attempt("text encoder", lambda: load_text_encoder(text_encoder))
    if text is not None:
        report.attempt("text encoder", lambda: _check_text(report, text, text_encoder, own))
    decoder = report.attempt("VAE", lambda: load_vae(vae_file(vae)))
    if decoder is not None:
        report.attempt("VAE", lambda: _check_vae(report, decoder, vae, own))
    if report.faults:
        say(f"{_counted(report.faults, 'fault')}; no chunk was run")
        return False
    pipeline = report.attempt("model", lambda: _assemble(model, weights, text, decoder, stream, *placed))
    if pipeline is not None:
        film_decoder = pipeline.decoder if own or vae is not None else _wan_decoder(pipeline.decoder.dtype)
        report.attempt("memory", lambda: _report_settings(report, pipeline, film_decoder))
        report.attempt("chunks", lambda: _run(report, pipeline))
    missing = [] if own else [name for name, path in (("text_encoder", text_encoder), ("vae", vae)) if path is None]
    say(_verdict(report.faults, missing))
    return not report.faults


class _Report:
    """Prints lines of `what  text` and counts the faults."""

    def __init__(self, say: Say):
        self.say, self.faults = say, 0

    def line(self, what: str, text: str) -> None:
        self.say(f"{what:<14}{text}")

    def wrong(self, what: str, text: str) -> None:
        self.faults += 1
        self.line(what, f"WRONG: {' '.join(text.split())}")

    def found(self, what: str, subject: str | os.PathLike, findings: Sequence[str]) -> None:
        """Report a line for each finding, half a sentence about `subject`."""
        for finding in findings:
            self.wrong(what, f"{subject} {finding}")

    def attempt(self, what: str, action: Callable[[], Any]) -> Any:
        """Return the action's result, or None and count a fault if it raises an error meant for the user."""
        try:
            return action()
        except (ValueError, OSError, ImportError, torch.cuda.OutOfMemoryError) as error:
            self.wrong(what, str(error))
            return None


def _place(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    check_device(device)
    place = resolve_device(device)
    return place, resolve_dtype(dtype, place)


def _check_model(
    report: _Report, path: str | os.PathLike, weights: Mapping[str, Tensor], prefer_ema: bool | None
) -> None:
    config = ModelConfig.from_state_dict(weights)
    build_model(weights, device="meta", path=path)  # names and shapes, strictly
    what = SHAPES.get((config.dim, config.ffn_dim, config.num_layers), "a Wan 2.1 text-to-video model of its own size")
    report.line(
        "model",
        f"{_file(path)}: {what}; {_weights(weights)}; width {config.dim}, feed-forward {config.ffn_dim}, "
        f"{config.num_heads} heads, {config.num_layers} layers{_entries(path, prefer_ema)}",
    )
    report.found("model", path, weight_problems(weights, copies=True))
    whole = {shape[:2]: shape[2] for shape in SHAPES}.get((config.dim, config.ffn_dim), config.num_layers)
    if config.num_layers != whole:
        report.wrong(
            "model",
            f"{path} has {config.num_layers} layers, and models of its width have {whole}: it was "
            "cut; take the original file",
        )
    if config.text_dim != CONTEXT_WIDTH:
        report.wrong(
            "model",
            f"{path} reads prompts of {config.text_dim} numbers, and Wan's text encoder gives "
            f"{CONTEXT_WIDTH}: it is not a Wan 2.1 model",
        )


def _entries(path: str | os.PathLike, prefer_ema: bool | None) -> str:
    """Describe the dictionaries of a training checkpoint: weights and moving average."""
    chosen = select_from_file(path, prefer_ema)
    if chosen.others:
        held = ", ".join((chosen.way[-1], *chosen.others) if not prefer_ema else (*chosen.others, chosen.way[-1]))
        return f"; the file holds {held}: {chosen.way[-1]} is used (--weights)"
    return f"; the file holds {chosen.way[-1]}" if chosen.way else ""


def _merged(
    report: _Report, weights: dict[str, Tensor] | None, path: str | os.PathLike, alpha: float | None, strength: float
) -> dict[str, Tensor] | None:
    layers = load_lora(path, alpha)
    findings = lora_problems(layers, strength)
    report.found("LoRA", path, findings)
    what = f"{_file(path)}: {_lora_kinds(layers)}"
    if weights is None:
        report.line("LoRA", f"{what}; not merged, because there is no model")
        return None
    merged = merge_lora(weights, layers, strength, path=path)
    if not findings:
        report.found("LoRA", path, merge_problems(weights, merged, layers))
    report.line("LoRA", f"{what}; merged into {len(layers)} of {len(weights)} tensors at strength {strength:g}")
    return merged


def _lora_kinds(parts: Mapping[str, LoraPart]) -> str:
    """Return a text such as `LoRA of 10 layers, rank 4, alpha 4`, with the number of layers of other kinds."""
    ranked = [part for part in parts.values() if part.rank]
    ranks, alphas = (sorted({getattr(part, name) for part in ranked}) for name in ("rank", "alpha"))
    text = f"LoRA of {len(parts)} layers" + (f", rank {_list(ranks)}, alpha {_list(alphas)}" if ranked else "")
    others = Counter(LORA_KINDS[type(part)] for part in parts.values() if not isinstance(part, LoraLayer))
    return text + "".join(f", {count} as {name}" for name, count in sorted(others.items()))


def _check_text(report: _Report, text: TextEncoder, path: str | os.PathLike | None, own: bool) -> None:
    if path is None and not own:
        report.line("text encoder", _stand_in("text_encoder"))
        return
    config, weights = text.model.config, text.model.state_dict()
    report.line(
        "text encoder",
        f"{_given(path)}: UMT5; {_weights(weights)}; width {config.d_model}, {config.num_layers} layers, "
        f"{config.vocab_size} tokens known, its tokenizer found",
    )
    report.found("text encoder", path or POCKET, weight_problems(weights, limits=TEXT_ENCODER_LIMITS))


def _check_vae(report: _Report, vae: WanVAE, path: str | os.PathLike | None, own: bool) -> None:
    if path is None and not own:
        report.line("VAE", _stand_in("vae"))
        return
    weights = vae.state_dict()
    report.line("VAE", f"{_given(path)}: Wan 2.1 VAE; {_weights(weights)}; width {vae.dim}, {vae.z_dim} channels")
    report.found("VAE", path or POCKET, weight_problems(weights))


def _assemble(model, weights, text, vae, stream, device, dtype) -> Pipeline:
    network = CausalWan(build_model(weights, device, dtype, path=model))
    decoder = StreamingDecoder(vae.to(device=device, dtype=dtype))
    return Pipeline(network, decoder, text, stream, default_size(model), device)


@torch.inference_mode()
def _run(report: _Report, pipeline: Pipeline) -> None:
    began = time.perf_counter()
    contexts = list(pipeline.encode(PROMPTS).values())
    if not is_finite(*contexts):
        raise CheckpointError("the text encoder's embeddings hold NaN or infinity; download its file again")
    shape = " x ".join(map(str, contexts[0].shape))
    report.line("prompts", f"2 encoded in {time.perf_counter() - began:.2f} s, {shape} each, all numbers finite")
    spans = [PromptSpan(0, contexts[0]), PromptSpan(1, contexts[1], "recache")]
    chunks = rollout(pipeline.model, spans, 2, (SIZE[1] // 8, SIZE[0] // 8), pipeline.stream, AddressedNoise(0))
    began = time.perf_counter()
    for chunk, frames in film_frames(chunks, pipeline.decoder):  # raises NonFiniteError
        seconds, latents = time.perf_counter() - began, chunk.latents
        report.line(
            f"chunk {chunk.index + 1} of 2",
            f"{seconds:.2f} s: {len(frames)} frames of {SIZE[0]} x {SIZE[1]}, all numbers finite; latents "
            f"{latents.min():.2f} to {latents.max():.2f}, pixels {frames.min()} to {frames.max()}"
            + (", after a recache" if chunk.index else ""),
        )
        began = time.perf_counter()


def _wan_decoder(dtype: torch.dtype) -> StreamingDecoder:
    """Return the shapes of Wan 2.1's own VAE, for the estimate while the built-in one is used."""
    with torch.device("meta"):
        return StreamingDecoder(WanVAE().to(dtype))


def _report_settings(report: _Report, pipeline: Pipeline, film_decoder: StreamingDecoder) -> None:
    stream: StreamConfig = pipeline.stream
    report.line(
        "settings",
        f"{pipeline.device}, {str(pipeline.model.dtype).removeprefix('torch.')}; window {stream.window}, sink "
        f"{stream.sink}, chunk {stream.chunk}, {stream.positions} positions, steps {_list(stream.denoising_steps)}, "
        f"shift {stream.shift:g}",
    )
    text, seconds = FILM
    plan, (width, height) = parse(text).plan(seconds, chunk=stream.chunk), pipeline.default_size
    need, free = estimate(pipeline.model, film_decoder, plan, stream, (width, height)), free_memory(pipeline.device)
    available = (
        None if free is None else free + weight_bytes(pipeline.model.module) + weight_bytes(pipeline.decoder.module)
    )
    need = need.placed(pipeline.device, available)
    room = "" if available is None else f"; {gigabytes(available)} are available"
    enough = ", which is NOT ENOUGH" if available is not None and need.total > available else ""
    film = f"a film of {seconds:g} s at {width} x {height}"
    report.line("memory", f"{film} needs at least {need.describe()}{room}{enough}")


def _verdict(faults: int, missing: list[str]) -> str:
    if faults:
        return _counted(faults, "fault")
    if missing:
        return f"the given files are in order; to render, give {' and '.join(missing)} too"
    return "all in order"


def _stand_in(name: str) -> str:
    return f"not given; the pocket model's is used here. A film needs {WANTED[name]}"


def _given(path: str | os.PathLike | None) -> str:
    return "built in" if path in (None, POCKET) else _file(path)


def _file(path: str | os.PathLike) -> str:
    return f"{path} ({gigabytes(sum(part.stat().st_size for part in files_of(path)))})"


def _weights(tensors: Mapping[str, Tensor]) -> str:
    numbers = sum(tensor.numel() for tensor in tensors.values())
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})
    return f"{len(tensors)} tensors, {numbers / 1e6:.1f} million numbers, {_list(dtypes)}"


def _list(values) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
