"""The teacher's own clips: what the causal start trains on where there are no videos.

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
    """Clips of a bidirectional model. A clip follows from these and its number; its prompt is the draw's of it.

    Attributes:
        config: its seed, size, `lengths.clip`, shift, negative prompt; `batch` clips are made together.
        draw: see `prompts.PromptStream.draw`.
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
        """With the configuration's teacher (without one, with what its student starts from), whole on this rank."""
        role = "student" if config.models.teacher is None else "teacher"
        encode = encoder(config, ranks)
        model = load_model(role, getattr(config.models, role), config, ranks)
        return cls(config, model, encode, draw, steps, guidance)

    def clips(self, numbers: Sequence[int], made: Callable[[int], object]) -> tuple[Tensor, list[str]]:
        """The clips [N, C, T, h, w], bfloat16 on the CPU, and prompts of these numbers; `made` is told how many."""
        prompts = [self.draw(number, 1)[0].prompt for number in numbers]
        parts = []
        for first in range(0, len(numbers), self.config.batch):
            part = slice(first, first + self.config.batch)
            parts.append(self._batch(numbers[part], prompts[part]).to(torch.bfloat16).cpu())
            made(len(parts[-1]))
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
