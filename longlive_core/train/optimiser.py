"""Training in bfloat16 with float32 master weights: twice the speed on a CPU that multiplies bfloat16, and no drift.

The module holds bfloat16 weights and computes with them; Adam moves float32 copies, which are rounded back after each
step. An exponential average of the master weights is kept for the export. Weights that FSDP2 has sharded are moved
shard by shard, each rank its own; only the gradients' norm is a matter of all.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate at `step` of `steps`: linear warm-up to `peak`, then a cosine down to 2 % of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values of about one, [N, rows, columns] (Newton-Schulz, five rounds; Muon)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(torch.bfloat16)
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.transpose(1, 2) if tall else x).float()


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; the tensor itself if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class MasterAdam:
    """AdamW over float32 copies of bfloat16 parameters, and Muon over those chosen by `matrix`.

    Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest orthogonal one; a short training of a
    transformer gets further with it than with Adam in the same number of steps.

    Args:
        modules: what is trained, by name: their parameters that require gradients.
        betas: of AdamW.
        matrix: whether the parameter of this name is a matrix that Muon moves.
        average: how much of the exponential average stays at each step (0: no averaging, `averaged` is the newest).
        average_from: the step from which on it is kept; before, `averaged` is the newest.
        ramp: let the average begin short and grow to `average` in about 9 / (1 - average) steps.
        clip: largest norm of all gradients together.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        betas=(0.9, 0.99),
        weight_decay: float = 0.0,
        average: float = 0.0,
        average_from: int = 0,
        clip: float = 1.0,
        ramp: bool = False,
        matrix: Callable[[str], bool] = lambda name: False,
    ):
        named = [
            (f"{name}.{key}", p)
            for name, module in modules.items()
            for key, p in module.named_parameters()
            if p.requires_grad
        ]
        self.names = [name for name, _ in named]
        self.params = [p for _, p in named]
        self.sharded = any(isinstance(p, DTensor) for p in self.params)
        # Plain contiguous copies: the fused step walks memory, so weight and gradient must lie alike.
        self.master = [local(p.detach()).float().clone(memory_format=torch.contiguous_format) for p in self.params]
        self.ema = [m.clone() for m in self.master]
        self.average, self.average_from, self.ramp = average, average_from, ramp
        self.clip, self.steps = clip, 0
        self.matrices: dict[tuple[int, ...], list[Tensor]] = {}
        rest = []
        for name, master in zip(self.names, self.master, strict=True):
            (self.matrices.setdefault(tuple(master.shape), []) if matrix(name) else rest).append(master)
        self.momentum = {shape: torch.zeros(len(group), *shape) for shape, group in self.matrices.items()}
        groups = [
            {"params": [m for m in rest if m.dim() >= 2], "weight_decay": weight_decay},
            {"params": [m for m in rest if m.dim() < 2], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=1e-3, betas=betas, eps=1e-8, fused=True)

    def step(self, rate: float, matrix_rate: float = 0.0) -> float:
        """Apply the gradients that lie on the parameters, clear them, and return their norm.

        A norm that is not finite moves nothing: the weights stay as they were, and the caller decides.
        """
        for master, p in zip(self.master, self.params, strict=True):
            master.grad = torch.zeros_like(master) if p.grad is None else local(p.grad).float().contiguous()
            p.grad = None
        norm = self._norm()
        if math.isfinite(norm):
            torch.nn.utils.clip_grads_with_norm_(self.master, self.clip, torch.tensor(norm))
            for group in self.adam.param_groups:
                group["lr"] = rate
            self.adam.step()
            self._move_matrices(matrix_rate)
        self.steps += 1
        with torch.no_grad():
            torch._foreach_copy_([local(p) for p in self.params], self.master)
            torch._foreach_lerp_(self.ema, self.master, 1 - self._kept())
        return norm

    def _kept(self) -> float:
        """How much of the average stays at this step."""
        counted = self.steps - self.average_from
        if counted <= 0:
            return 0.0
        return min(self.average, (1 + counted) / (10 + counted)) if self.ramp else self.average

    def _norm(self) -> float:
        squares = sum(m.grad.square().sum(dtype=torch.float64) for m in self.master)
        if self.sharded:
            dist.all_reduce(squares)
        return math.sqrt(float(squares)) if torch.isfinite(squares) else float("nan")

    @torch.no_grad()
    def _move_matrices(self, rate: float, keep: float = 0.95) -> None:
        for shape, group in self.matrices.items():
            gradient = torch.stack([master.grad for master in group])
            momentum = self.momentum[shape].lerp_(gradient, 1 - keep)
            matrix = gradient.lerp(momentum, keep).flatten(2)  # a convolution's: [out, in * kernel]
            update = orthogonalised(matrix) * max(1.0, matrix.shape[1] / matrix.shape[2]) ** 0.5
            torch._foreach_add_(group, list(update.view_as(gradient).unbind(0)), alpha=-rate)

    def state_dict(self) -> dict[str, Any]:
        """All that later steps depend on (this rank's shards)."""
        moments = {
            number: dict(self.adam.state[master])
            for number, master in enumerate(self.master)
            if master in self.adam.state
        }
        return {
            "names": self.names,
            "master": self.master,
            "ema": self.ema,
            "steps": self.steps,
            "moments": moments,
            "momentum": list(self.momentum.values()),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, the parameters included. ValueError where it is of other parameters."""
        shapes = [tuple(m.shape) for m in self.master]
        if state["names"] != self.names or [tuple(m.shape) for m in state["master"]] != shapes:
            raise ValueError(
                f"the saved optimiser is of {len(state['names'])} other parameters than these "
                f"{len(self.names)}; go on with its own configuration and number of ranks"
            )
        torch._foreach_copy_(
            [*self.master, *self.ema, *self.momentum.values()], [*state["master"], *state["ema"], *state["momentum"]]
        )
        torch._foreach_copy_([local(p) for p in self.params], self.master)
        for number, moments in state["moments"].items():
            self.adam.state[self.master[number]] = {name: value.clone() for name, value in moments.items()}
        self.steps = state["steps"]

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, float32, by `module.parameter` name; whole (so every rank must ask)."""
        return {name: _whole(value, p) for name, value, p in zip(self.names, self.ema, self.params, strict=True)}

    def newest(self) -> dict[str, Tensor]:
        """The master weights themselves, float32, by `module.parameter` name; whole (so every rank must ask)."""
        return {name: _whole(value, p) for name, value, p in zip(self.names, self.master, self.params, strict=True)}


def _whole(part: Tensor, like: Tensor) -> Tensor:
    """A copy of the tensor of which this is the rank's part."""
    if not isinstance(like, DTensor):
        return part.clone()
    spread = DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
    return spread.full_tensor()


def submodule(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights under `name.`, without that prefix."""
    return {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(name + ".")}
