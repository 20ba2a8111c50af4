"""Find damaged weights: zeros, constants, copies, and numbers out of any plausible range.

A damaged download may have the right length and names: an interrupted one leaves zeros, a wrong conversion other
numbers. Each problem names its tensors and is certain: biases may be zero, the weights of norms may all be one, and
untrained parts are not a fault unless nothing in the file has an effect.
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
_EMBEDDINGS = ("shared.weight", "embed_tokens.weight", "token_embedding.weight")  # some words are never used
_RUN = 1024  # adjacent numbers that are never all zero after training
_ROWS = 8  # fewer rows are not conclusive


class Limits(NamedTuple):
    """The allowed range of a matrix's largest magnitude; the built-in models' largest is 4.5."""

    smallest: float
    largest: float


WEIGHT_LIMITS = Limits(1e-5, 1e3)  # of transformer and VAE
TEXT_ENCODER_LIMITS = Limits(1e-12, 1e5)  # of text encoders, whose embeddings are larger
LORA_LIMITS = Limits(1e-12, 1e4)  # of LoRAs, which are multiplied


def weight_problems(
    tensors: Mapping[str, Tensor], *, copies: bool = False, limits: Limits = WEIGHT_LIMITS
) -> list[str]:
    """Return problems such as `holds only zeros in 2 (a, b): download the file again`; empty if there are none.

    copies: also search for matrices that are equal to each other, which a transformer never has.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta:
            kind = _problem(name, tensor, limits)
            if kind is not None:
                found[kind].append(name)
    sound = {name: tensor for name, tensor in tensors.items() if not any(name in names for names in found.values())}
    problems = [f"holds {kind} in {sample(names)}: {AGAIN}" for kind, names in found.items()]
    return problems + (_copies(sound) if copies else [])


def _problem(name: str, tensor: Tensor, limits: Limits) -> str | None:
    """Return the problem of one tensor: one pass over it, and a second over rows that begin with a zero."""
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
    """Return whether a quarter of the rows, or many adjacent numbers, are zeros; for a vector, half of it."""
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
    """Count the rows of zeros; only rows that begin with a zero are inspected."""
    candidates = (rows[:, 0] == 0).nonzero().flatten()
    return sum(not bool(rows[row].any()) for row in candidates.tolist())


def _copies(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return matrices with the same numbers under two names; whole blocks are reported as blocks."""
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
        return [f"holds blocks that are copies: {sample(whole)}; a conversion wrote them twice: use the original file"]
    shown = sample(f"{one} = {other}" for one, other in pairs)
    return [f"holds the same numbers under two names: {shown}; a conversion wrote them twice: use the original file"]


def _block(name: str) -> str:
    found = re.match(r"blocks\.\d+", name)
    return found[0] if found else ""


def _is_copy(one: str, other: str, pairs: Iterable[tuple[str, str]], tensors: Mapping[str, Tensor]) -> bool:
    matrices = [name for name, tensor in tensors.items() if name.startswith(f"{one}.") and tensor.ndim >= 2]
    copied = [pair for pair in pairs if (_block(pair[0]), _block(pair[1])) == (one, other)]
    return bool(one and other) and len(copied) == len(matrices)


# LoRA


def lora_problems(parts: Mapping[str, LoraPart], strength: float = 1.0) -> list[str]:
    """Return the problems of a LoRA: implausible numbers, and causes why it, or a part of it, has no effect."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, part in parts.items():
        for name, tensor in factors(part).items():
            subject = key if isinstance(part, Difference) else name
            kind = _problem(subject, tensor, LORA_LIMITS) if tensor.numel() else "no numbers"
            if kind is not None and not _harmless(kind, part, tensor):
                found[kind].append(f"{key}.{name}")
    zeros = found.pop("only zeros", [])
    problems = [f"holds {kind} in {sample(names)}: {AGAIN}" for kind, names in found.items()]
    return problems + _no_effect(parts, zeros, strength) + _lost_blocks(parts) + _equal_parts(parts)


def _harmless(kind: str, part: LoraPart, tensor: Tensor) -> bool:
    """Return whether a problem of model weights is normal in a LoRA: zero rows, small constant factors (LoKr's), and
    differences of any kind, where something did not change."""
    if kind == "zeros where numbers should be":
        return True
    if isinstance(part, Difference):
        return kind != "NaN or infinity" and not kind.startswith("numbers beyond")
    return kind == "one and the same number" and tensor.numel() < 16


def _no_effect(parts: Mapping[str, LoraPart], zeros: list[str], strength: float) -> list[str]:
    problems = []
    if strength == 0:
        problems.append("has no effect at strength 0: leave it out, or give another strength")
    silent = sorted(key for key, part in parts.items() if part.scale == 0)
    if silent:
        problems.append(f"has alpha 0, so no effect, in {sample(silent)}: ask its author for the right alpha")
    dead = {name.rpartition(".")[0] for name in zeros}
    idle = {key for key, part in parts.items() if isinstance(part, Difference) and not bool(part.diff.any())}
    if len(dead | idle) == len(parts):
        problems.append(
            f"has no effect: only zeros in {sample(zeros or idle)}. It was saved before it was trained, or the "
            f"download is damaged: {AGAIN}"
        )
    elif dead:
        problems.append(
            f"holds only zeros in {sample(zeros)}, so {len(dead)} of its {len(parts)} layers have no effect: "
            f"{AGAIN}, or ask its author"
        )
    return problems


def _lost_blocks(parts: Mapping[str, LoraPart]) -> list[str]:
    """Return the blocks that a LoRA lacks although it has the same layer of the blocks around them."""
    by_layer: dict[str, set[int]] = defaultdict(set)
    for key in parts:
        found = re.fullmatch(r"blocks\.(\d+)\.(.+)", key)
        if found:
            by_layer[found[2]].add(int(found[1]))
    lost = []
    for layer, blocks in by_layer.items():
        gaps = set(range(min(blocks), max(blocks) + 1)) - blocks
        if gaps and len(gaps) * 4 <= len(blocks):  # every other block, or a few of them, may be intended
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
    """Return problems that appear on merging: weights that do not change, or that the LoRA overwhelms."""
    names = [tensor_of(key) for key in parts]
    same = [name for name in names if _stays(name, before, after) and _stays(f"{name}_scale", before, after)]
    broken = [name for name in names if not bool(torch.isfinite(after[name].float()).all())]
    overwhelmed = [name for name in names if name not in broken and _overwhelmed(before[name], after[name])]
    problems = []
    if broken:
        problems.append(f"makes NaN or infinity of {sample(broken)} at this strength")
    if overwhelmed:
        problems.append(
            f"outweighs the model by more than {OUTWEIGHS} times in {sample(overwhelmed)}: its alpha or the "
            "strength is wrong"
        )
    if len(same) == len(names):
        problems.append(f"changes nothing of the model: {sample(same)} do not change")
    return problems


def _stays(name: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> bool:
    return name not in before or torch.equal(before[name], after[name])


OUTWEIGHS = 1000


def _overwhelmed(before: Tensor, after: Tensor) -> bool:
    if before.ndim < 2 or not before.is_floating_point():
        return False
    return float(after.float().norm()) > OUTWEIGHS * max(float(before.float().norm()), 1e-6)
