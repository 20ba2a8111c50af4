"""Build a training stage from a configuration: load models, check that they fit together, add LoRA, shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import CheckpointError, build_model, load_state_dict, load_vae
from ..config import WEIGHT_SETS, ModelConfig
from ..device.precision import resolve_dtype
from ..model import WanModel
from ..quant import int8_layers
from ..run.pipeline import WANTED, is_pocket, load_text_encoder, model_file, vae_file
from ..vae import WanVAE
from .causal_start.causal_stage import CausalStage
from .config import CAUSAL, Config
from .data.clip_files import ClipFolder, ClipStream
from .distillation.distil_stage import DistilStage
from .distillation.first_latent import image_latents
from .lora import add_lora
from .parallel import Ranks, shard
from .settings import ConfigError
from .stage import Encode, Stage, Trainee, optimiser_of
from .trainable import TrainableWan


def build(config: Config, draw: Callable | None, ranks: Ranks) -> Stage:
    """Load everything that the configured stage needs onto this rank. draw: see `run.run`.

    Raises:
        ConfigError: a file is missing or not a diffusion model, or teacher and student have different latents.
        ValueError: the clips of the causal start are invalid.
    """
    return _causal_start(config, ranks) if config.stage == CAUSAL else _distillation(config, draw, ranks)


def _causal_start(config: Config, ranks: Ranks) -> CausalStage:
    clips = ClipStream(ClipFolder(config.causal.clips), config.seed)
    clips.clips.check(config.latent_size, config.stream.chunk)  # fail before minutes of loading
    encode = encoder(config, ranks)
    models = []
    for _ in range(3):
        models.append(load_model("student", config.models.student, config, ranks))
        shard(models[-1].module, ranks)
    return CausalStage(config, *models, encode, clips, ranks)


def _distillation(config: Config, draw: Callable, ranks: Ranks) -> DistilStage:
    """Load and shard one model after another, so that no rank holds more than one of them unsharded."""
    encode = encoder(config, ranks)
    as_image = image_latents(vae_of(config, ranks)) if config.needs_pictures else None
    models: dict[str, TrainableWan] = {}
    for number, role in enumerate(("student", "critic", "teacher")):
        model = models[role] = load_model(role, getattr(config.models, role), config, ranks)
        _check_fit(config, role, model.config, models["student"].config)
        if role == "teacher":
            model.module.requires_grad_(False)
        elif config.lora is not None and (role == "student" or config.lora.critic):
            add_lora(model.module, config.lora, config.seed + number)
        shard(model.module, ranks)
    student = Trainee(models["student"], optimiser_of("student", models["student"], config.student_optimiser))
    critic = Trainee(models["critic"], optimiser_of("critic", models["critic"], config.critic_optimiser))
    return DistilStage(config, student, critic, models["teacher"], encode, draw, ranks, as_image)


def load_model(role: str, path: str, config: Config, ranks: Ranks) -> TrainableWan:
    """Load a model for training onto this rank's device. ConfigError that names its role.

    Teacher and critic see whole clips and may have any width; the student is a LongLive, which is a 1.3B model.
    """
    dtype = training_dtype(config, ranks)
    try:
        weights = load_state_dict(model_file(path), prefer_ema=_set_of(role, config), any_width=role != "student")
        if quantised := int8_layers(weights):
            raise CheckpointError(
                f"{path} is INT8 ({len(quantised)} layers), which training does not take; use the bf16 or fp16 file"
            )
        module: WanModel = build_model(weights, ranks.device, dtype, path=path)
    except (CheckpointError, OSError) as error:
        raise ConfigError(f"models.{role}: {error}") from None
    if ranks.device.type == "cpu":  # there, weights share the file's memory map; training needs its own copy
        module.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, assign=True)
    return TrainableWan(module.requires_grad_(True), checkpointing=config.checkpointing)


def _set_of(role: str, config: Config) -> bool | None:
    return WEIGHT_SETS[getattr(config.models, f"{role}_weights")]


def training_dtype(config: Config, ranks: Ranks) -> torch.dtype:
    """Return the configured dtype; where `auto` would give float16, too narrow for gradients, it gives float32."""
    dtype = resolve_dtype(config.dtype, ranks.device)
    return torch.float32 if config.dtype == "auto" and dtype is torch.float16 else dtype


def _check_fit(config: Config, role: str, other: ModelConfig, student: ModelConfig) -> None:
    """Check what all three models must share: latents, patches and the text encoder's width."""
    for name in ("in_dim", "out_dim", "patch_size", "text_dim"):
        mine, theirs = getattr(student, name), getattr(other, name)
        if mine != theirs:
            raise ConfigError(
                f"models.{role} ({getattr(config.models, role)}) does not fit the student "
                f"({config.models.student}): {name} is {theirs}, the student's is {mine}; use a text-to-video "
                "model with the same VAE and text encoder, such as Wan2.1-T2V-14B"
            )


def encoder(config: Config, ranks: Ranks) -> Encode:
    """Load the configured text encoder onto this rank's device; the pocket model brings its own.

    ConfigError if none is configured and the student is another model: the toybox's encoder would read its prompts.
    """
    path = config.models.text_encoder
    _check_given("text_encoder", path, config)
    try:
        text = load_text_encoder(path).to(ranks.device)
    except (CheckpointError, OSError) as error:
        raise ConfigError(f"models.text_encoder: {error}") from None

    def encode(texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return text.encode(list(texts)).to(ranks.device)

    return encode


def vae_of(config: Config, ranks: Ranks) -> WanVAE:
    """Load the configured VAE. ConfigError as in `encoder`."""
    path = config.models.vae
    _check_given("vae", path, config)
    try:
        return load_vae(vae_file(path), ranks.device, training_dtype(config, ranks))
    except (CheckpointError, OSError) as error:
        raise ConfigError(f"models.vae: {error}") from None


def _check_given(role: str, path: str | None, config: Config) -> None:
    student = config.models.student
    if path is None and Path(student).exists() and not is_pocket(student):
        raise ConfigError(
            f"missing setting models.{role}: only the pocket model brings its own, and the student is "
            f"{student}. Set it to {WANTED[role]}"
        )
