"""Normalised attention guidance (NAG, arXiv 2505.21179): a negative prompt for models without CFG.

Cross-attention is computed for the prompt and for the negative prompt, and the result is pushed away from the second.
The push is limited, so that features stay in the range that the model was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """The negative prompt and the strength of the guidance.

    Attributes:
        context: the negative prompt after the model's text embedding, [1, text tokens, dim].
        scale, tau (largest growth), alpha (share of the guided features): as the paper names them.
    """

    context: Tensor
    scale: float
    alpha: float
    tau: float

    def apply(self, wanted: Tensor, unwanted: Tensor) -> Tensor:
        """Combine the cross-attention results of both prompts, [..., dim], into the guided result."""
        guided = wanted * self.scale - unwanted * (self.scale - 1)
        size, limit = _size(guided), _size(wanted) * self.tau
        shrink = torch.where(size > limit, limit / (size + 1e-7), 1.0).to(guided)
        return torch.lerp(wanted, guided * shrink, self.alpha)


def _size(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, ord=1, dim=-1, keepdim=True, dtype=torch.float32)
