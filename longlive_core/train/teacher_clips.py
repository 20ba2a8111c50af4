"""Clips sampled by the teacher: training data of the causal start when there are no videos.

Shapes: N clips, C channels, T latent frames, h, w latent size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .addressed_random import normal
from .bidirectional import sample
from .config import Config
from .models import encoder, load_model
from .parallel import Ranks
from .stage import Encode
from .trainable import TrainableWan


@dataclass(frozen=True)
class ClipSampler:
    """Samples clips of a bidirectional model. A clip is determined by these attributes and its number.

    Attributes:
        config: its seed, size, `lengths.clip`, shift and negative prompt; `batch` clips are sampled together.
        draw: clip number -> prompt, see `prompt_files.PromptStream.draw`.
        steps, guidance: see `bidirectional.sample`.
    """

    config: Config
    model: TrainableWan
    encode: Encode
    draw: Callable
    steps: int
    guidance: float

    @classmethod
    def load(cls, config: Config, draw: Callable, steps: int, guidance: float, ranks: Ranks) -> ClipSampler:
        """Load the configuration's teacher (or, without one, the student's start), unsharded on this rank."""
        role = "student" if config.models.teacher is None else "teacher"
        encode = encoder(config, ranks)
        model = load_model(role, getattr(config.models, role), config, ranks)
        return cls(config, model, encode, draw, steps, guidance)

    def clips(self, numbers: Sequence[int], on_batch: Callable[[int], object]) -> tuple[Tensor, list[str]]:
        """Sample the clips of these numbers: latents [N, C, T, h, w], bfloat16 on the CPU, and their prompts.

        on_batch: called with the number of clips after each batch.
        """
        prompts = [self.draw(number, 1)[0].prompt for number in numbers]
        parts = []
        for first in range(0, len(numbers), self.config.batch):
            part = slice(first, first + self.config.batch)
            parts.append(self._batch(numbers[part], prompts[part]).to(torch.bfloat16).cpu())
            on_batch(len(parts[-1]))
        return torch.cat(parts), prompts

    @torch.no_grad()
    def _batch(self, numbers: Sequence[int], prompts: Sequence[str]) -> Tensor:
        model, config = self.model, self.config
        shape = (model.config.in_dim, config.lengths.clip, *config.latent_size)
        noise = normal(shape, numbers, config.seed, "clip").to(model.device)
        without = [config.negative_prompt] * len(prompts)
        unconditional = model.prompt_keys(self.encode(without)) if self.guidance else None
        keys = model.prompt_keys(self.encode(prompts))
        return sample(model, noise, keys, unconditional, self.guidance, self.steps, config.stream.shift)
