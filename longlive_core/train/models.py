"""From a configuration to a stage of the training: load, check that the models fit together, add LoRA, shard, wrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..checkpoints import CheckpointError, build_model, load_state_dict
from ..config import ModelConfig
from ..model import WanModel
from ..pipeline import load_text_encoder, model_file, resolve_dtype
from .causal_stage import CausalStage
from .clip_files import ClipFolder, ClipStream
from .config import CAUSAL, Config, ConfigError
from .distil import Distiller
from .lora import add_lora
from .parallel import Ranks, shard
from .stage import Encode, Stage, Trainee, optimiser_of
from .trainable import TrainableWan


def build(config: Config, draw: Callable | None, who: Ranks) -> Stage:
    """Load all that the configured stage needs onto this rank. draw: see `run.run`.

    Raises:
        ConfigError: a file is missing or no diffusion model, or teacher and student do not speak of the same latents.
        ValueError: the clips of the causal start are not as they should be.
    """
    return _causal_start(config, who) if config.stage == CAUSAL else _distillation(config, draw, who)


def _causal_start(config: Config, who: Ranks) -> CausalStage:
    clips = ClipStream(ClipFolder(config.causal.clips), config.seed)
    clips.clips.check(config.latent_size, config.stream.chunk)  # before minutes of loading
    models = [load_model("student", config.models.student, config, who) for _ in range(3)]
    for model in models:
        shard(model.module, who)
    return CausalStage(config, *models, encoder(config.models.text_encoder, who), clips, who)


def _distillation(config: Config, draw: Callable, who: Ranks) -> Distiller:
    paths = config.models
    models = {role: load_model(role, getattr(paths, role), config, who) for role in ("student", "teacher", "critic")}
    _check_fit(config, {role: model.config for role, model in models.items()})
    models["teacher"].module.requires_grad_(False)
    lora = config.lora
    if lora is not None:
        add_lora(models["student"].module, lora, config.seed)
        if lora.critic:
            add_lora(models["critic"].module, lora, config.seed + 1)
    for model in models.values():
        shard(model.module, who)
    student = Trainee(models["student"], optimiser_of("student", models["student"], config.student_optimiser))
    critic = Trainee(models["critic"], optimiser_of("critic", models["critic"], config.critic_optimiser))
    return Distiller(config, student, critic, models["teacher"], encoder(paths.text_encoder, who), draw, who)


def load_model(role: str, path: str, config: Config, who: Ranks) -> TrainableWan:
    """A model of a file, ready to be trained, on this rank's device. ConfigError that names its role."""
    dtype = resolve_dtype(config.dtype, who.device)
    try:
        weights = load_state_dict(model_file(path))
        module: WanModel = build_model(weights, who.device, dtype, path=path)
    except (CheckpointError, OSError) as error:
        raise ConfigError(f"models.{role}: {error}") from None
    # Weights built from a file share its memory map; training writes into its own.
    module.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, assign=True)
    return TrainableWan(module.requires_grad_(True), checkpointing=config.checkpointing)


def _check_fit(config: Config, shapes: dict[str, ModelConfig]) -> None:
    """What all three must share: latents, patches and the text encoder's width. Width and depth are their own."""
    student = shapes["student"]
    for role in ("teacher", "critic"):
        other = shapes[role]
        for name in ("in_dim", "out_dim", "patch_size", "text_dim"):
            mine, theirs = getattr(student, name), getattr(other, name)
            if mine != theirs:
                raise ConfigError(
                    f"models.{role} ({getattr(config.models, role)}) does not fit the student "
                    f"({config.models.student}): {name} is {theirs}, the student's is {mine}; take a text-to-video "
                    "model of the same VAE and text encoder, such as Wan2.1-T2V-14B"
                )


def encoder(path: str | None, who: Ranks) -> Encode:
    """Texts -> embeddings on this rank's device, by the text encoder of a file, or the built-in one."""
    try:
        text = load_text_encoder(path).to(who.device)
    except (CheckpointError, OSError) as error:
        raise ConfigError(f"models.text_encoder: {error}") from None

    def encode(texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return text.encode(list(texts)).to(who.device)

    return encode
