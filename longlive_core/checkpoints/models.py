"""Load a diffusion model or a VAE from a file: read, rename, check, build on `meta`, assign."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import ModelConfig
from ..model import WanModel
from ..quant import insert_int8_linears, int8_layers, place
from ..vae import WanVAE, channels_last
from .attention_settings import drop_attention_settings
from .errors import CheckpointError, sample
from .key_table import strip_wrappers
from .model_kinds import recognise
from .tensor_files import read_file
from .wan_keys import require_floating_point, to_wan_keys
from .weight_sets import SelectedWeights, select_weights

log = logging.getLogger(__name__)


def load_state_dict(
    path: str | os.PathLike,
    *,
    prefer_ema: bool | None = None,
    any_width: bool = False,
    keep_attention_settings: bool = False,
) -> dict[str, Tensor]:
    """Return a diffusion model's weights under Wan 2.1's names, on the CPU, in the file's dtype.

    Args:
        path: `longlive_base.pt`, Self-Forcing's `.pt`, Wan 2.1 safetensors as published, as diffusers or as ComfyUI
            saves them, or such a file in INT8 (`int8_tensorwise`). Of several shards, one of them or their index.
        prefer_ema: a training checkpoint may hold the weights and their moving average. None: the weights (as in the
            reference's `use_ema: false`), or the average if the file has only that. True or False: only the average or
            only the weights; an error if missing. Self-Forcing's README uses the average. The log reports the choice.
        any_width: also accept Wan 2.1 14B, which cannot render causal films here but can be a teacher in training.
        keep_attention_settings: keep the file's attention settings (`attention_settings.py`), for ComfyUI. Otherwise
            a warning names them.

    Raises:
        CheckpointError: the file is none of these; the message says what it is and what to do.
    """
    selected = select_from_file(path, prefer_ema)
    choice = selected.describe(path)
    if choice is not None:  # a warning if the user did not choose, so that the command line shows it too
        log.log(logging.WARNING if prefer_ema is None else logging.INFO, "%s (see `weights`)", choice)
    weights = to_wan_keys(selected.tensors, path, any_width)
    return weights if keep_attention_settings else drop_attention_settings(weights, path)


def select_from_file(path: str | os.PathLike, prefer_ema: bool | None = None) -> SelectedWeights:
    """Return the set of weights that `load_state_dict` uses, under the file's own keys. Raises CheckpointError."""
    content, _ = read_file(path)
    if isinstance(content, Mapping) and isinstance(content.get("generator_lora"), Mapping):
        kind = recognise(content["generator_lora"])
        raise CheckpointError(f"{path} is no diffusion model: it is {kind.what if kind else 'a LoRA'}")
    return select_weights(content, prefer_ema, path)


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
    """Return a WanModel with these weights, built on `meta`, so that nothing is initialised or held twice.

    Args:
        state_dict: Wan names, as from `load_state_dict`.
        dtype: of all weights except INT8 ones and their scales; None keeps the file's.
        config: by default read from the shapes (heads of 128, as in every Wan model).
        path: for messages only.

    Raises:
        CheckpointError: missing or unexpected names, or other shapes; counted, with samples.
    """
    with torch.device("meta"):  # `device="meta"` would be too late: layers are initialised where they are created
        model = WanModel(config or ModelConfig.from_state_dict(state_dict))
    try:
        insert_int8_linears(model, int8_layers(state_dict))
    except ValueError as error:
        raise CheckpointError(f"the weights of {path} do not fit the model; {error}") from error
    check_fit(model.state_dict(), state_dict, path)
    model.load_state_dict(place(state_dict, device, dtype), strict=True, assign=True)
    return model.eval().requires_grad_(False)


def load_vae(path: str | os.PathLike, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> WanVAE:
    """Load Wan 2.1's VAE from `Wan2.1_VAE.pth` or ComfyUI's `wan_2.1_vae.safetensors` (the keys are the same).

    Raises CheckpointError if the file is something else or incomplete.
    """
    tensors = vae_tensors(read_file(path)[0], path)
    _check_vae(tensors, path)
    placed = {name: tensor.to(device=device, dtype=dtype) for name, tensor in tensors.items()}
    return channels_last(WanVAE.from_state_dict(placed).eval().requires_grad_(False))


VAE_ANCHOR = "decoder.middle.0.residual.0.gamma"  # in every Wan 2.1 VAE


def vae_tensors(content, path) -> dict[str, Tensor]:
    """Return a VAE's weights from a file's content. CheckpointError: not Wan 2.1's VAE; names what it is instead."""
    tensors = {strip_wrappers(str(name)): value for name, value in select_weights(content, None, path).tensors.items()}
    kind = recognise(tensors)
    if kind is not None and kind.name == "vae":
        prefix = next(name for name in tensors if name.endswith(VAE_ANCHOR)).removesuffix(VAE_ANCHOR)
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    else:
        if any(name.endswith("head.modulation") for name in tensors):
            what = "a Wan diffusion model; it belongs in models/diffusion_models and is given as `model`"
        else:
            what = kind.what if kind else f"something else; it holds {sample(map(str, content))}"
        raise CheckpointError(
            f"{path} is not Wan 2.1's VAE: it is {what}. Use Wan2.1_VAE.pth or ComfyUI's wan_2.1_vae.safetensors"
        )
    require_floating_point(tensors, path)
    return tensors


def _check_vae(tensors: Mapping[str, Tensor], path) -> None:
    missing = [name for name in ("decoder.head.0.gamma", "conv2.weight") if name not in tensors]
    if missing:
        raise CheckpointError(f"{path} is incomplete: it lacks {sample(missing)}")
    with torch.device("meta"):
        expected = WanVAE(tensors["decoder.head.0.gamma"].shape[0], tensors["conv2.weight"].shape[0])
    check_fit(expected.state_dict(), tensors, path)
