"""What cannot be in weights that were trained: zeros, constants, copies, numbers far out of any range.

A download may have the right length and names and still be damaged: one that was prepared and not filled leaves zeros,
a wrong conversion other numbers. Each finding says which tensors, and is wrong with certainty: biases may be zero,
norms' weights may all be one, and what never trained is no fault of a file unless nothing of it has an effect.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import sample
from .lora.merge import tensor_of
from .lora.parts import Difference, LohaLayer, LoraLayer, LoraPart, factors

AGAIN = "download the file again"
_EMBEDDINGS = ("shared.weight", "embed_tokens.weight", "token_embedding.weight")  # rows of words that nobody uses
_RUN = 1024  # numbers side by side that no training leaves at zero
_ROWS = 8  # fewer rows tell nothing


class Limits(NamedTuple):
    """What the largest number of a matrix lies between; the built-in models' largest is 4.5."""

    smallest: float
    largest: float


WEIGHT_LIMITS = Limits(1e-5, 1e3)  # of transformer and VAE
TEXT_ENCODER_LIMITS = Limits(1e-12, 1e5)  # of text encoders, whose embeddings are larger
LORA_LIMITS = Limits(1e-12, 1e4)  # of LoRAs, which are multiplied


def weight_problems(
    tensors: Mapping[str, Tensor], *, copies: bool = False, limits: Limits = WEIGHT_LIMITS
) -> list[str]:
    """Half sentences such as `holds only zeros in 2 (a, b): download the file again`; empty: nothing is wrong.

    copies: also look for matrices that are equal to each other, of which a transformer has none.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
            kind = _wrong(name, tensor, limits)
            if kind is not None:
                found[kind].append(name)
    sound = {name: tensor for name, tensor in tensors.items() if not any(name in names for names in found.values())}
    told = [f"holds {kind} in {sample(names)}: {AGAIN}" for kind, names in found.items()]
    return told + (_copies(sound) if copies else [])


def _wrong(name: str, tensor: Tensor, limits: Limits) -> str | None:
    """What is wrong with one tensor: one pass over it, and a second over rows that begin with a zero."""
    numbers = tensor.float() if tensor.element_size() == 1 else tensor
    low, high = (float(value) for value in numbers.aminmax())
    largest = max(abs(low), abs(high))
    if not largest < float("inf"):  # NaN too
        return "NaN or infinity"
    if largest > limits.largest:
        return f"numbers beyond {limits.largest:g}, which no trained model has,"
    bias, numbers = name.endswith("bias"), numbers.squeeze()
    if largest == 0:
        return None if bias else "only zeros"
    if bias or (numbers.ndim < 2 and low == high):  # norms may be all one
        return None
    if low == high and tensor.numel() > 1:
        return "one and the same number"
    if largest < limits.smallest:
        return f"only numbers below {limits.smallest:g}, which have no effect,"
    return "zeros where numbers should be" if _has_hole(name, numbers) else None


def _has_hole(name: str, numbers: Tensor) -> bool:
    """Whether a quarter of the rows, or many numbers side by side, are zeros; of a vector, whether half of it is."""
    if numbers.ndim < 2:
        return int((numbers == 0).sum()) * 2 >= numbers.numel() >= _ROWS
    rows = numbers.flatten(1) if numbers.shape[0] >= _ROWS else numbers.flatten(0, -2)
    empty = _zero_rows(rows)
    if name.endswith(_EMBEDDINGS):
        return empty * 2 >= len(rows)
    flat = numbers.reshape(-1)
    runs = flat[: len(flat) // _RUN * _RUN].view(-1, _RUN)
    return (len(rows) >= _ROWS and empty * 4 >= len(rows)) or _zero_rows(runs) > 0


def _zero_rows(rows: Tensor) -> int:
    """How many rows are zero throughout; only those that begin with a zero are looked at."""
    candidates = (rows[:, 0] == 0).nonzero().flatten()
    return sum(not bool(rows[row].any()) for row in candidates.tolist())


def _copies(tensors: Mapping[str, Tensor]) -> list[str]:
    """Matrices with the same numbers under two names; whole blocks are named as such."""
    groups: dict[tuple, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.ndim >= 2 and tensor.numel() >= 64 and not tensor.is_meta:
            flat = tensor.reshape(-1)
            picked = flat[:: max(1, flat.numel() // 64)][:64].contiguous()
            groups[(tuple(tensor.shape), bytes(picked.view(torch.uint8).tolist()))].append(name)
    pairs = []
    for names in groups.values():
        first = names[0]
        pairs += [(first, other) for other in names[1:] if torch.equal(tensors[first], tensors[other])]
    if not pairs:
        return []
    blocks = {(_block(one), _block(other)) for one, other in pairs if _block(one) != _block(other)}
    whole = sorted(f"{other} of {one}" for one, other in blocks if _is_copy(one, other, pairs, tensors))
    if whole:
        return [f"holds blocks that are copies: {sample(whole)}; a conversion wrote them twice: take the original file"]
    shown = sample(f"{one} = {other}" for one, other in pairs)
    return [f"holds the same numbers under two names: {shown}; a conversion wrote them twice: take the original file"]


def _block(name: str) -> str:
    found = re.match(r"blocks\.\d+", name)
    return found[0] if found else ""


def _is_copy(one: str, other: str, pairs: Iterable[tuple[str, str]], tensors: Mapping[str, Tensor]) -> bool:
    matrices = [name for name, tensor in tensors.items() if name.startswith(f"{one}.") and tensor.ndim >= 2]
    copied = [pair for pair in pairs if (_block(pair[0]), _block(pair[1])) == (one, other)]
    return bool(one and other) and len(copied) == len(matrices)


# LoRA


def lora_problems(parts: Mapping[str, LoraPart], strength: float = 1.0) -> list[str]:
    """The same of a LoRA: numbers that cannot be, and all that makes it, or a part of it, have no effect."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, part in parts.items():
        for name, tensor in factors(part).items():
            subject = key if isinstance(part, Difference) else name
            kind = _wrong(subject, tensor, LORA_LIMITS) if tensor.numel() else "no numbers"
            if kind is not None and not _harmless(kind, part, tensor):
                found[kind].append(f"{key}.{name}")
    zeros = found.pop("only zeros", [])
    told = [f"holds {kind} in {sample(names)}: {AGAIN}" for kind, names in found.items()]
    return told + _no_effect(parts, zeros, strength) + _lost_blocks(parts) + _equal_parts(parts)


def _harmless(kind: str, part: LoraPart, tensor: Tensor) -> bool:
    """What may be in a LoRA, other than in a model: zero rows, small constant factors (LoKr's), and differences of any
    kind, where something did not change."""
    if kind == "zeros where numbers should be":
        return True
    if isinstance(part, Difference):
        return kind != "NaN or infinity" and not kind.startswith("numbers beyond")
    return kind == "one and the same number" and tensor.numel() < 16


def _no_effect(parts: Mapping[str, LoraPart], zeros: list[str], strength: float) -> list[str]:
    told = []
    if strength == 0:
        told.append("has no effect at strength 0: leave it out, or give another strength")
    silent = sorted(key for key, part in parts.items() if part.scale == 0)
    if silent:
        told.append(f"has alpha 0, so no effect, in {sample(silent)}: ask who made it for the right alpha")
    dead = {name.rpartition(".")[0] for name in zeros}
    idle = {key for key, part in parts.items() if isinstance(part, Difference) and not bool(part.diff.any())}
    if len(dead | idle) == len(parts):
        told.append(
            f"has no effect: only zeros in {sample(zeros or idle)}. It was saved before it was trained, or the "
            f"download is damaged: {AGAIN}"
        )
    elif dead:
        told.append(
            f"holds only zeros in {sample(zeros)}, so {len(dead)} of its {len(parts)} layers have no effect: "
            f"{AGAIN}, or ask who made it"
        )
    return told


def _lost_blocks(parts: Mapping[str, LoraPart]) -> list[str]:
    """Blocks that a LoRA leaves out though it has the same layer of those around them."""
    by_layer: dict[str, set[int]] = defaultdict(set)
    for key in parts:
        found = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        if found:
            by_layer[found[2]].add(int(found[1]))
    lost = []
    for layer, blocks in by_layer.items():
        gaps = set(range(min(blocks), max(blocks) + 1)) - blocks
        if gaps and len(gaps) * 4 <= len(blocks):  # every other block, or a chosen few, is somebody's choice
            lost += [f"blocks.{block}.{layer}" for block in sorted(gaps)]
    return [f"lacks layers between others that it has: {sample(lost)}; {AGAIN}"] if lost else []


def _equal_parts(parts: Mapping[str, LoraPart]) -> list[str]:
    ups = {
        key: part.up if isinstance(part, LoraLayer) else part.w1_a if isinstance(part, LohaLayer) else part.diff
        for key, part in parts.items()
        if isinstance(part, (LoraLayer, LohaLayer, Difference))
    }
    return _copies({f"{key}.up": up for key, up in ups.items() if up.ndim >= 2 and bool(up.any())})


def merge_problems(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], parts: Mapping[str, LoraPart]
) -> list[str]:
    """What merging shows: weights that stay as they are, or that nothing is left of."""
    names = [tensor_of(key) for key in parts]
    same = [name for name in names if _stays(name, before, after) and _stays(f"{name}_scale", before, after)]
    broken = [name for name in names if not bool(torch.isfinite(after[name].float()).all())]
    drowned = [name for name in names if name not in broken and _drowned(before[name], after[name])]
    told = []
    if broken:
        told.append(f"makes NaN or infinity of {sample(broken)} at this strength")
    if drowned:
        told.append(
            f"outweighs the model by more than {OUTWEIGHS} times in {sample(drowned)}: its alpha or the "
            "strength is wrong"
        )
    if len(same) == len(names):
        told.append(f"changes nothing of the model: {sample(same)} stay as they are")
    return told


def _stays(name: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    return name not in before or torch.equal(before[name], after[name])


OUTWEIGHS = 1000


def _drowned(before: Tensor, after: Tensor) -> bool:
    if before.ndim < 2 or not before.is_floating_point():
        return False
    return float(after.float().norm()) > OUTWEIGHS * max(float(before.float().norm()), 1e-6)
