"""The parts of a LoRA: how it changes one weight.

A part is a low-rank product (LoRA), a Hadamard or Kronecker product of such products (LoHa, LoKr), or a difference.
Each part computes its exact change in float32 (`delta`) and has tensors under the endings that ComfyUI's loaders know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class LoraLayer(NamedTuple):
    """The low-rank update of a layer: down [rank, in], up [out, rank], and alpha, which scales it by alpha / rank.

    For a convolution both have the kernel's axes after these; those of up have length 1.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def size(self) -> list[int]:
        """Shape of the weight that it changes."""
        return [self.up.shape[0], *self.down.shape[1:]]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """Return the change of a weight [out, in] at strength 1, in float32."""
        return (self.up.float().flatten(1) @ self.down.float().flatten(1)) * self.scale

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors under the endings that ComfyUI's loaders know."""
        return {".lora_A.weight": self.down, ".lora_B.weight": self.up, ".alpha": torch.tensor(self.alpha)}

    def problem(self) -> str | None:
        """Return why the shapes do not match; None if they do."""
        down, up = self.down, self.up
        if down.ndim >= 2 and up.ndim >= 2 and up.flatten(1).shape[1] == down.shape[0] > 0:
            return None
        return (
            f"lora_A {list(down.shape)} and lora_B {list(up.shape)} do not multiply (expected [rank, in] and "
            "[out, rank])"
        )


class LohaLayer(NamedTuple):
    """The elementwise product (w1_a @ w1_b) * (w2_a @ w2_b) * alpha / rank; w_a [out, rank], w_b [rank, in]."""

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.w1_b.shape[0]

    @property
    def size(self) -> list[int]:
        return [self.w1_a.shape[0], self.w1_b.shape[1]]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        first, second = self.w1_a.float() @ self.w1_b.float(), self.w2_a.float() @ self.w2_b.float()
        return first * second * self.scale

    def tensors(self) -> dict[str, Tensor]:
        parts = {f".hada_{name}": getattr(self, name) for name in ("w1_a", "w1_b", "w2_a", "w2_b")}
        return parts | {".alpha": torch.tensor(self.alpha)}

    def problem(self) -> str | None:
        shapes = [list(part.shape) for part in self[:4]]
        if (
            all(len(shape) == 2 for shape in shapes)
            and shapes[0] == shapes[2]
            and shapes[1] == shapes[3]
            and shapes[0][1] == shapes[1][0] > 0
        ):
            return None
        return f"hada_w1_a, hada_w1_b, hada_w2_a, hada_w2_b are {shapes} (expected [out, rank], [rank, in], twice)"


class LokrLayer(NamedTuple):
    """The Kronecker product of w1 and w2, each a matrix or a product of two; alpha applies if one is a product."""

    w1: tuple[Tensor, ...]
    w2: tuple[Tensor, ...]
    alpha: float

    @property
    def rank(self) -> int:
        """The rank; 0 if neither factor is a product."""
        return next((factor[1].shape[0] for factor in (self.w2, self.w1) if len(factor) == 2), 0)

    @property
    def size(self) -> list[int]:
        return [self.w1[0].shape[0] * self.w2[0].shape[0], self.w1[-1].shape[1] * self.w2[-1].shape[1]]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank if self.rank else 1.0

    def delta(self) -> Tensor:
        first, second = (_product(factor) for factor in (self.w1, self.w2))
        return torch.kron(first, second) * self.scale

    def tensors(self) -> dict[str, Tensor]:
        named = {}
        for name, factor in (("w1", self.w1), ("w2", self.w2)):
            endings = ("",) if len(factor) == 1 else ("_a", "_b")
            named |= {f".lokr_{name}{ending}": part for ending, part in zip(endings, factor, strict=True)}
        return named | ({".alpha": torch.tensor(self.alpha)} if self.rank else {})

    def problem(self) -> str | None:
        for name, factor in (("w1", self.w1), ("w2", self.w2)):
            shapes = [list(part.shape) for part in factor]
            whole = len(factor) == 1 or shapes[0][-1] == shapes[-1][0]
            if not all(len(shape) == 2 and min(shape) > 0 for shape in shapes) or not whole:
                return f"lokr_{name} is {shapes} (expected [a, b], or [a, rank] and [rank, b])"
        return None


class Difference(NamedTuple):
    """A full difference of a weight or a bias."""

    diff: Tensor

    @property
    def rank(self) -> int:
        return 0

    @property
    def alpha(self) -> float:
        return 1.0

    @property
    def size(self) -> list[int]:
        return list(self.diff.shape)

    @property
    def scale(self) -> float:
        return 1.0

    def delta(self) -> Tensor:
        return self.diff.float()

    def tensors(self) -> dict[str, Tensor]:
        return {".diff": self.diff}

    def problem(self) -> str | None:
        return None


LoraPart = LoraLayer | LohaLayer | LokrLayer | Difference
LORA_KINDS = {LoraLayer: "LoRA", LohaLayer: "LoHa", LokrLayer: "LoKr", Difference: "differences"}


def _product(factor: tuple[Tensor, ...]) -> Tensor:
    return factor[0].float() if len(factor) == 1 else factor[0].float() @ factor[1].float()


def factors(part: LoraPart) -> dict[str, Tensor]:
    """Return a part's tensors without alpha, by short names (`lora_A`, `hada_w1_a`, `diff`)."""
    named = {name.strip(".").removesuffix(".weight"): value for name, value in part.tensors().items()}
    return {name: value for name, value in named.items() if name != "alpha"}


def make_part(given: Mapping[str, Tensor], alpha: float | None) -> LoraPart | str:
    """Build a part from the entries of one weight (`down`, `up`, `hada_w1_a`, `lokr_w1`, `diff`, ...).

    alpha: None: the rank, as in ComfyUI. Returns a description of what is missing if the entries are incomplete.
    """
    names = given.keys()
    if names == {"diff"}:
        return Difference(given["diff"])
    if names == {"down", "up"}:
        down = given["down"]
        return LoraLayer(down, given["up"], float(down.shape[0] if down.ndim else 1) if alpha is None else alpha)
    if names <= {"down", "up"}:
        return "lora_A or lora_B is missing"
    hada = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    if names == set(hada):
        rank = given["hada_w1_b"].shape[0] if given["hada_w1_b"].ndim else 1
        return LohaLayer(*(given[name] for name in hada), float(rank) if alpha is None else alpha)
    if names <= set(hada):
        return "one of hada_w1_a, hada_w1_b, hada_w2_a and hada_w2_b is missing"
    if all(name.startswith("lokr_") for name in names):
        return _lokr(given, alpha)
    return f"{', '.join(sorted(names))} are given for one weight, but only one kind can be"


def _lokr(given: Mapping[str, Tensor], alpha: float | None) -> LoraPart | str:
    found = []
    for side in ("lokr_w1", "lokr_w2"):
        names = [name for name in given if name.startswith(side)]
        if set(names) not in ({side}, {f"{side}_a", f"{side}_b"}):
            return f"{side}, or {side}_a and {side}_b, is missing"
        found.append(tuple(given[name] for name in sorted(names)))
    part = LokrLayer(*found, alpha=0.0)
    return part._replace(alpha=float(part.rank or 1) if alpha is None else alpha)
