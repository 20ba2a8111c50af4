"""The losses of the causal start: from a bidirectional teacher to a causal student of few denoising steps.

Two stages, both by teacher forcing (clean ground-truth chunks as context, noisy chunks trained in parallel):

1. An autoregressive diffusion model: the teacher's weights under the causal mask, flow matching at all timesteps.
2. Causal consistency distillation: the student's clean prediction at one noise level must match its prediction at the
   next lower level, which is reached by one guided Euler step of the first model.

Self-Forcing and LongLive start from ODE trajectories of the bidirectional teacher instead. Causal Forcing (Zhu et al.
2026) shows the flaw: a chunk of such a trajectory depends on chunks that the student cannot see yet, so the student
learns the mean of several answers. Trajectories of an autoregressive model do not have this flaw. Causal Forcing++
(2026) finds that consistency distillation learns the same map without stored trajectories; this is implemented here.

Shapes: B clips, C channels, T latent frames, h, w latent size, N chunks with noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...config import TRAIN_TIMESTEPS, StreamConfig
from ...engine.schedule import warp
from ...model import CausalWan, PromptKeys, Rotary
from .teacher_forcing import LAST_SLOT, ForcingAttention, ForcingLayout


def levels(steps: int, shift: float) -> tuple[float, ...]:
    """Return `steps` + 1 timesteps from 1000 down to 0, evenly spaced before the shift."""
    return tuple(warp(TRAIN_TIMESTEPS * (steps - i) / steps, shift) for i in range(steps)) + (0.0,)


def check_levels(steps: int, stream: StreamConfig) -> None:
    """Raise ValueError unless the student's denoising steps are among `steps` levels."""
    if steps < 1:
        raise ValueError(f"{steps} levels of the teacher's sampler: at least 1 is needed, such as 48")
    grid = levels(steps, stream.shift)
    for step in stream.denoising_steps:
        if not any(abs(warp(step, stream.shift) - level) < 1e-6 for level in grid):
            raise ValueError(
                f"denoising step {step} is none of {steps} even steps; choose a multiple of "
                f"{len(stream.denoising_steps)}"
            )


def check_window(stream: StreamConfig) -> None:
    """Raise ValueError unless the stream has the window of teacher forcing (`teacher_forcing.visible_chunks`)."""
    chunk = stream.chunk
    window, sink = (LAST_SLOT + 1) * chunk, chunk
    if (stream.window, stream.sink) != (window, sink):
        raise ValueError(
            f"window {stream.window} and sink {stream.sink} (latent frames): teacher forcing trains the "
            f"window of LongLive, four chunks with the first as sink; with chunk {chunk} set window "
            f"{window} and sink {sink}"
        )
    if stream.context_noise:
        raise ValueError(f"context_noise {stream.context_noise}: teacher forcing reads clean chunks; leave it at 0")


@dataclass(frozen=True)
class ForcedClips:
    """Ground-truth clips, laid out for teacher forcing.

    Attributes:
        clean: [B, C, T, h, w]; all chunks but the last are context.
        stream: chunk and positions; the window is LongLive's (`teacher_forcing.py`).
    """

    clean: Tensor
    stream: StreamConfig

    @property
    def layout(self) -> ForcingLayout:
        return ForcingLayout(self.clean.shape[2] // self.stream.chunk, 1)

    def spread(self, per_chunk: Tensor) -> Tensor:
        """Expand one value per chunk [B, N] to [B, 1, T, 1, 1], on the clips' device."""
        return per_chunk.to(self.clean.device).repeat_interleave(self.stream.chunk, dim=1)[:, None, :, None, None]

    def velocity(self, model: CausalWan, noisy: Tensor, timesteps: Tensor, prompt: PromptKeys) -> Tensor:
        """Return the velocity [B, C, T, h, w] of all chunks, given the ground truth before each.

        timesteps: [B, N], one per chunk.
        """
        chunk, (_, ph, pw) = self.stream.chunk, model.config.patch_size
        context = self.clean[:, :, :-chunk]
        grid = (noisy.shape[-2] // ph, noisy.shape[-1] // pw)
        rotary = Rotary(model.config.head_dim, grid, model.device)
        attend = ForcingAttention(self.layout, rotary, chunk, model.dtype, self.stream.positions)
        times = torch.cat([torch.zeros(len(noisy), context.shape[2]), timesteps.repeat_interleave(chunk, 1)], dim=1)
        both = model.velocity(torch.cat([context, noisy], dim=2), times, prompt, attend)
        return both[:, :, context.shape[2] :]


def autoregressive_loss(
    model: CausalWan, clips: ForcedClips, noise: Tensor, timesteps: Tensor, prompt: PromptKeys
) -> Tensor:
    """Return the flow-matching loss of every chunk given the ground-truth chunks before it.

    noise: shaped like the clips. timesteps: [B, N].
    """
    sigma = clips.spread(timesteps / TRAIN_TIMESTEPS)
    noisy = (1 - sigma) * clips.clean + sigma * noise
    return (clips.velocity(model, noisy, timesteps, prompt) - (noise - clips.clean)).square().mean()


@dataclass(frozen=True)
class Consistency:
    """Causal consistency distillation.

    Attributes:
        teacher: the autoregressive diffusion model; frozen.
        target: the student's moving average (or the student itself); gets no gradient.
        steps: number of levels of the teacher's sampler. The student's denoising steps must be among them.
        guidance: scale as in `bidirectional.clean_clip`.
    """

    teacher: CausalWan
    target: CausalWan
    stream: StreamConfig
    steps: int = 48
    guidance: float = 3.0

    def __post_init__(self):
        check_levels(self.steps, self.stream)

    def loss(
        self,
        student: CausalWan,
        clips: ForcedClips,
        noise: Tensor,
        places: Tensor,
        context: Tensor,
        unconditional: Tensor,
    ) -> Tensor:
        """Return the mean squared distance between the student's clean prediction and the target's one level below.

        Args:
            noise: shaped like the clips.
            places: [B, N] int64 in [0, steps): each chunk's level.
            context, unconditional: text embeddings [B, text tokens, text_dim].
        """
        grid = torch.tensor(levels(self.steps, self.stream.shift))
        high, low = grid[places], grid[places + 1]
        sigma, after = (clips.spread(level / TRAIN_TIMESTEPS) for level in (high, low))
        noisy = (1 - sigma) * clips.clean + sigma * noise
        with torch.no_grad():
            flow = self._guided(clips, noisy, high, context, unconditional)
            lower = noisy + (after - sigma) * flow
            keys = self.target.prompt_keys(context)
            goal = lower - after * clips.velocity(self.target, lower, low, keys)  # at level 0: the sample itself
        guess = noisy - sigma * clips.velocity(student, noisy, high, student.prompt_keys(context))
        return (guess - goal).square().mean()

    def _guided(self, clips: ForcedClips, noisy: Tensor, timesteps: Tensor, context: Tensor, without: Tensor) -> Tensor:
        flow = clips.velocity(self.teacher, noisy, timesteps, self.teacher.prompt_keys(context))
        if not self.guidance:
            return flow
        plain = clips.velocity(self.teacher, noisy, timesteps, self.teacher.prompt_keys(without))
        return flow + self.guidance * (flow - plain)
