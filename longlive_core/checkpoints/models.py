"""From a file to a diffusion model or a VAE: read, rename, check, build on `meta`, assign."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import ModelConfig
from ..model import WanModel
from ..quant import insert_int8_linears, int8_layers, place
from ..vae import WanVAE, channels_last
from .files import CheckpointError, read_file, sample
from .names import recognise, unwrap, wan_names
from .preferences import leave_out_preferences

# The dictionaries a training checkpoint keeps beside each other. `model` is a training run's single set of weights.
GENERATOR, GENERATOR_EMA, PLAIN = "generator", "generator_ema", "model"


def load_state_dict(
    path: str | os.PathLike, *, prefer_ema: bool | None = None, any_width: bool = False, preferences: bool = False
) -> dict[str, Tensor]:
    """A diffusion model's weights under Wan 2.1's names, on the CPU, in the file's dtype.

    Args:
        path: `longlive_base.pt`, Self-Forcing's `.pt`, Wan 2.1 safetensors as published or as ComfyUI saves them, or
            such a file in INT8 (`int8_tensorwise`).
        prefer_ema: a training checkpoint may hold the weights and their moving average. None: the weights (as in the
            reference's `use_ema: false`), or the average where only that is there. True or False: that one, and an
            error where it is missing. Self-Forcing's README uses the average.
        any_width: take Wan 2.1 14B too, which films no causal film here but may teach one (training).
        preferences: keep what the file says of attention (`preferences.py`), for ComfyUI. Else a warning names it.

    Raises:
        CheckpointError: the file is not one of these; the message says what it is and what to do.
    """
    content, _ = read_file(path)
    weights = wan_names(_choose(content, prefer_ema, path), path, any_width)
    return weights if preferences else leave_out_preferences(weights, path)


def _choose(content, prefer_ema: bool | None, path) -> dict[str, Tensor]:
    """The dictionary of tensors to use, of all that a file holds."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    nested = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    if "generator_lora" in nested:
        kind = recognise(nested["generator_lora"])
        raise CheckpointError(f"{path} is no diffusion model: it is {kind.what if kind else 'a LoRA'}")
    if GENERATOR in nested or GENERATOR_EMA in nested:
        order = {None: (GENERATOR, GENERATOR_EMA), True: (GENERATOR_EMA,), False: (GENERATOR,)}[prefer_ema]
        found = next((name for name in order if name in nested), None)
        if found is None:
            raise CheckpointError(
                f"{path} has no `{order[0]}`, which prefer_ema={prefer_ema} asks for; it has {sample(nested)}"
            )
        content = nested[found]
    elif prefer_ema:
        raise CheckpointError(f"{path} has no `{GENERATOR_EMA}`, which prefer_ema=True asks for")
    elif isinstance(content.get(PLAIN), Mapping):
        content = content[PLAIN]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no weights; its entries are {sample(map(str, content))}")
    return tensors


def check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], path) -> None:
    """Raise CheckpointError with counts and samples unless `given` has exactly the names and shapes of `expected`."""
    missing = expected.keys() - given.keys()
    unexpected = given.keys() - expected.keys()
    reshaped = [
        f"{name} {list(given[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected.keys() & given.keys()
        if expected[name].shape != given[name].shape
    ]
    problems = [
        f"{what}: {sample(names)}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise CheckpointError(f"the weights of {path} do not fit the model; {'; '.join(problems)}")


def build_model(
    state_dict: Mapping[str, Tensor],
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    config: ModelConfig | None = None,
    path: str | os.PathLike = "the given state dictionary",
) -> WanModel:
    """A WanModel with these weights: built on `meta`, so that nothing is initialised or held twice.

    Args:
        state_dict: Wan names, as from `load_state_dict`.
        dtype: of all weights but INT8 ones and their scales; None keeps the file's.
        config: read from the shapes by default (heads of 128, as in every Wan model).
        path: only for messages.

    Raises:
        CheckpointError: missing or unexpected names, or other shapes; counted, with samples.
    """
    with torch.device("meta"):  # as an argument it would come too late: layers initialise where they are made
        model = WanModel(config or ModelConfig.from_state_dict(state_dict))
    try:
        insert_int8_linears(model, int8_layers(state_dict))
    except ValueError as error:
        raise CheckpointError(f"the weights of {path} do not fit the model; {error}") from error
    check_fit(model.state_dict(), state_dict, path)
    model.load_state_dict(place(state_dict, device, dtype), strict=True, assign=True)
    return model.eval().requires_grad_(False)


def load_vae(path: str | os.PathLike, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> WanVAE:
    """Wan 2.1's VAE from `Wan2.1_VAE.pth` or ComfyUI's `wan_2.1_vae.safetensors` (the names are the same).

    Raises CheckpointError where the file is something else or incomplete.
    """
    tensors = vae_tensors(read_file(path)[0], path)
    _check_vae(tensors, path)
    placed = {name: tensor.to(device=device, dtype=dtype) for name, tensor in tensors.items()}
    return channels_last(WanVAE.from_state_dict(placed).eval().requires_grad_(False))


def vae_tensors(content, path) -> dict[str, Tensor]:
    """A VAE's weights out of a file's content; CheckpointError where it is not Wan 2.1's, with what it is instead."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a dictionary of weights")
    tensors = {unwrap(name): value for name, value in content.items() if isinstance(value, Tensor)}
    kind = recognise(tensors)
    if kind is None or kind.name != "vae":
        if "head.modulation" in tensors or "model.head.modulation" in tensors or "generator" in content:
            what = "a Wan diffusion model; it belongs in models/diffusion_models and is given as `model`"
        else:
            what = kind.what if kind else f"something else; it holds {sample(map(str, content))}"
        raise CheckpointError(
            f"{path} is not Wan 2.1's VAE: it is {what}. Take Wan2.1_VAE.pth or ComfyUI's wan_2.1_vae.safetensors"
        )
    return tensors


def _check_vae(tensors: Mapping[str, Tensor], path) -> None:
    missing = [name for name in ("decoder.head.0.gamma", "conv2.weight") if name not in tensors]
    if missing:
        raise CheckpointError(f"{path} is incomplete: it lacks {sample(missing)}")
    with torch.device("meta"):
        expected = WanVAE(tensors["decoder.head.0.gamma"].shape[0], tensors["conv2.weight"].shape[0])
    check_fit(expected.state_dict(), tensors, path)
