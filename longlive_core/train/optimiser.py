"""Training in bfloat16 with float32 master weights: twice the speed on a CPU that multiplies bfloat16, and no drift.

The module computes with bfloat16 weights; Adam updates float32 copies, which are rounded back after each step. An
exponential moving average (EMA) of the master weights is kept for the export. Of weights sharded by FSDP2, each rank
updates its own shards; only the gradient norm is computed over all ranks.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def cosine_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the learning rate at `step` of `steps`: linear warm-up to `peak`, then a cosine down to 2 % of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def orthogonalised(matrices: Tensor) -> Tensor:
    """Return the nearest matrices with singular values of about one, [N, rows, columns] (Muon: five Newton-Schulz
    iterations)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(torch.bfloat16)
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.transpose(1, 2) if tall else x).float()


def local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a sharded tensor, or the tensor itself if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class MasterAdam:
    """AdamW over float32 copies of bfloat16 parameters, and Muon over those chosen by `matrix`.

    Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest orthogonal matrix. In a short training of a
    transformer it reaches a lower loss than Adam in the same number of steps.

    Args:
        modules: modules to train, by name; their parameters that require gradients are trained.
        betas: of AdamW.
        matrix: parameter name -> whether Muon updates it.
        average: decay of the EMA (0: no averaging, `averaged` returns the newest weights).
        average_from: first step of the EMA; before it, `averaged` returns the newest weights.
        ramp: let the decay grow from small values to `average` in about 9 / (1 - average) steps.
        clip: maximum norm of all gradients together.
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
        # Contiguous copies: the fused step walks memory, so weight and gradient need the same layout.
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
        """Apply the parameters' gradients, clear them, and return their norm.

        With a norm that is not finite the weights stay unchanged; the caller decides what to do.
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
        """Return the EMA's decay at this step."""
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
        """Return everything that later steps depend on (this rank's shards)."""
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
        """Resume from a saved state, including the parameters. ValueError if it belongs to other parameters."""
        shapes = [tuple(m.shape) for m in self.master]
        if state["names"] != self.names or [tuple(m.shape) for m in state["master"]] != shapes:
            raise ValueError(
                f"the saved optimiser has {len(state['names'])} parameters that differ from these "
                f"{len(self.names)}; resume with its own configuration and number of ranks"
            )
        torch._foreach_copy_(
            [*self.master, *self.ema, *self.momentum.values()], [*state["master"], *state["ema"], *state["momentum"]]
        )
        torch._foreach_copy_([local(p) for p in self.params], self.master)
        for number, moments in state["moments"].items():
            self.adam.state[self.master[number]] = {name: value.clone() for name, value in moments.items()}
        self.steps = state["steps"]

    def averaged(self) -> dict[str, Tensor]:
        """Return the averaged weights, float32, unsharded, by `module.parameter` name. Every rank must call this."""
        return {name: _whole(value, p) for name, value, p in zip(self.names, self.ema, self.params, strict=True)}

    def newest(self) -> dict[str, Tensor]:
        """Return the master weights, float32, unsharded, by `module.parameter` name. Every rank must call this."""
        return {name: _whole(value, p) for name, value, p in zip(self.names, self.master, self.params, strict=True)}


def _whole(part: Tensor, like: Tensor) -> Tensor:
    """Return a copy of the whole tensor of which `part` is this rank's shard."""
    if not isinstance(like, DTensor):
        return part.clone()
    spread = DTensor.from_local(part, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())
    return spread.full_tensor()


def submodule(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the weights under `name.`, without that prefix."""
    return {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(name + ".")}
