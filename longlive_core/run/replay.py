"""Re-run a recorded reference run and write its outputs under the same names.

A recording is one safetensors file with weights, inputs and outputs of a small random model (see tests/fidelity).
Three kinds: a rollout (`model.*`), the VAE (`vae.*`), the text encoder (`t5.*`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..config import ModelConfig, StreamConfig
from ..engine.noise import RecordedNoise
from ..engine.rollout import rollout
from ..engine.schedule import warp
from ..engine.shot import PromptSpan
from ..files import nofollow
from ..model import CausalWan, WanModel
from ..vae import WanVAE, decode, encode
from ..words.wording import shorten

Tensors = dict[str, Tensor]


def replay(source: str | Path, target: str | Path) -> dict[str, float]:
    """Re-run the recording `source`, write its outputs to `target` (float32, the recording's names and shapes).

    Returns:
        For each output its largest absolute difference from the recording.

    Raises:
        ValueError: if the file cannot be read or is not a recording.
    """
    tensors, config = read_recording(source)
    try:
        outputs = run(tensors, config)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        reason = f"{type(error).__name__}: {shorten(str(error), 200)}"
        raise ValueError(
            f"{source}: its tensors or its `config` are not those of a recording ({reason}); record it again"
        ) from error
    temporary = Path(target).with_name(Path(target).name + ".part")
    nofollow.create(temporary).close()  # does not follow a link in its place
    save_file({name: value.contiguous() for name, value in outputs.items()}, temporary)
    os.replace(temporary, target)
    return {name: (value - tensors[name]).abs().max().item() for name, value in outputs.items()}


def read_recording(source: str | Path) -> tuple[Tensors, dict]:
    """Return the tensors of a recording and its configuration."""
    try:
        with safe_open(source, "pt") as file:
            config = _parsed((file.metadata() or {}).get("config", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{source}: not a readable safetensors file ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{source}: no `config` in its metadata, so it is not a recording of the fidelity format")
    return tensors, config


def _parsed(text: str) -> object:
    """Return the parsed JSON; None if the text is not JSON."""
    try:
        return json.loads(text)
    except (RecursionError, ValueError):
        return None


def run(tensors: Tensors, config: dict, device: torch.device | str = "cpu") -> Tensors:
    """Recompute the outputs of a recording in float32 on `device`; return them on the CPU."""
    kinds: dict[str, Callable[[Tensors, dict], Tensors]] = {"model.": _rollout, "vae.": _vae, "t5.": _text}
    for prefix, rerun in kinds.items():
        if any(name.startswith(prefix) for name in tensors):
            with torch.inference_mode():
                placed = {name: tensor.to(device) for name, tensor in tensors.items()}
                return {name: output.cpu() for name, output in rerun(placed, config).items()}
    raise ValueError(f"no weights named {', '.join(kinds)}: not a recording of the fidelity format")


def part(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors under a prefix, without it."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def stream_config(config: dict) -> StreamConfig:
    """Return the run's settings as a StreamConfig."""
    return StreamConfig(
        window=config["window"],
        sink=config["sink"],
        chunk=config["chunk"],
        shift=config["shift"],
        sink_policy="held" if config["keep_sink"] else "refreshed",
        positions=config["rope"],
        denoising_steps=tuple(config["denoising_steps"]),
        context_noise=config["context_noise"],
    )


def _build(tensors: Tensors, config: dict) -> CausalWan:
    weights = part(tensors, "model.")
    lora = part(tensors, "lora.")
    if lora:
        from ..checkpoints import merge_lora, parse_lora

        weights = merge_lora(weights, parse_lora(lora, config["lora"]["alpha"]))
    model_config = ModelConfig.from_state_dict(weights, num_heads=config["arch"]["num_heads"])
    with torch.device("meta"):
        module = WanModel(model_config)
    module.load_state_dict(weights, strict=True, assign=True)
    return CausalWan(module, model_config)


def _rollout(tensors: Tensors, config: dict) -> Tensors:
    stream = stream_config(config)
    # A switch takes effect at the first chunk boundary at or after its latent frame.
    starts = [0, *(-(-frame // stream.chunk) for frame in config["switch_frames"])]
    spans = [PromptSpan(start, tensors[f"context.{number}"]) for number, start in enumerate(starts)]
    noise = RecordedNoise(tensors["noise"].transpose(1, 2), tensors["renoise"].transpose(3, 4))
    chunks = rollout(
        _build(tensors, config),
        spans,
        config["frames"] // stream.chunk,
        (config["height"], config["width"]),
        stream,
        noise,
    )
    latents = torch.cat([chunk.latents for chunk in chunks], dim=2).transpose(1, 2)
    timesteps = torch.tensor([warp(step, stream.shift) for step in stream.denoising_steps])
    return {"latents": latents, "timesteps": timesteps.to(tensors["timesteps"].dtype)}


def _vae(tensors: Tensors, config: dict) -> Tensors:
    vae = WanVAE.from_state_dict(part(tensors, "vae."))
    return {"decoded": decode(vae, tensors["latents"]), "encoded": encode(vae, tensors["frames"])}


def _text(tensors: Tensors, config: dict) -> Tensors:
    from ..checkpoints.text_encoder import replay_umt5

    return replay_umt5(tensors, config)
